// Writers of small zip archives and pickles, sound and unsound ones, for the tests of their readers.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/io/test_files.h"

namespace molt {

/// Writes zip archives; each member of Entry may be set to a lie.
class ZipBuilder {
 public:
  struct Entry {
    std::string name;
    std::string data;
    std::uint16_t flags = 0;
    std::uint16_t method = 0;
    std::string local_name;         // "" means `name`
    std::int64_t size_error = 0;    // added to the sizes in the directory
    std::int64_t offset_error = 0;  // added to the offset in the directory
    std::size_t align = 1;          // of the data within the archive
  };

  ZipBuilder& add(Entry entry) {
    entries_.push_back(std::move(entry));
    return *this;
  }
  ZipBuilder& add(std::string name, std::string data, std::size_t align = 64) {
    return add(Entry{.name = std::move(name), .data = std::move(data), .align = align});
  }

  bool zip64 = false;                // with sizes and offsets in ZIP64 fields only
  std::int64_t count_error = 0;      // added to the number of entries
  std::int64_t directory_error = 0;  // added to the directory's offset
  std::string comment;

  std::string build() const {
    std::string file;
    std::string directory;
    for (const Entry& entry : entries_) {
      const std::uint64_t offset = file.size();
      append_local(file, entry);
      directory += central(entry, offset + static_cast<std::uint64_t>(entry.offset_error));
    }
    const std::uint64_t begin = file.size() + static_cast<std::uint64_t>(directory_error);
    const std::uint64_t count = entries_.size() + static_cast<std::uint64_t>(count_error);
    file += directory;
    if (zip64) {
      const std::uint64_t end64 = file.size();
      file += "PK\x06\x06" + little_endian(44, 8) + little_endian(45, 2) + little_endian(45, 2) + little_endian(0, 8) +
              little_endian(count, 8) + little_endian(count, 8) + little_endian(directory.size(), 8) +
              little_endian(begin, 8);
      file += "PK\x06\x07" + little_endian(0, 4) + little_endian(end64, 8) + little_endian(1, 4);
    }
    const auto short_count = little_endian(zip64 ? 0xffff : count, 2);
    file += "PK\x05\x06" + little_endian(0, 4) + short_count + short_count +
            little_endian(zip64 ? 0xffffffff : directory.size(), 4) + little_endian(zip64 ? 0xffffffff : begin, 4) +
            little_endian(comment.size(), 2) + comment;
    return file;
  }

 private:
  void append_local(std::string& file, const Entry& entry) const {
    const std::string& name = entry.local_name.empty() ? entry.name : entry.local_name;
    std::size_t padding = (entry.align - (file.size() + 30 + name.size()) % entry.align) % entry.align;
    if (padding > 0 && padding < 4) padding += entry.align;
    const bool sizes_follow = (entry.flags & 8) != 0;
    file += "PK\x03\x04" + little_endian(20, 2) + little_endian(entry.flags, 2) + little_endian(entry.method, 2) +
            little_endian(0, 8) + little_endian(sizes_follow ? 0 : entry.data.size(), 4) +
            little_endian(sizes_follow ? 0 : entry.data.size(), 4) + little_endian(name.size(), 2) +
            little_endian(padding, 2) + name;
    if (padding > 0) file += "FB" + little_endian(padding - 4, 2) + std::string(padding - 4, 'Z');
    file += entry.data;
    if (sizes_follow)
      file += "PK\x07\x08" + little_endian(0, 4) + little_endian(entry.data.size(), 4) +
              little_endian(entry.data.size(), 4);
  }

  std::string central(const Entry& entry, std::uint64_t offset) const {
    const std::uint64_t size = entry.data.size() + static_cast<std::uint64_t>(entry.size_error);
    std::string extra;
    if (zip64)
      extra = little_endian(1, 2) + little_endian(24, 2) + little_endian(size, 8) + little_endian(size, 8) +
              little_endian(offset, 8);
    const std::string size_field = little_endian(zip64 ? 0xffffffff : size, 4);
    return "PK\x01\x02" + little_endian(20, 2) + little_endian(20, 2) + little_endian(entry.flags, 2) +
           little_endian(entry.method, 2) + little_endian(0, 8) + size_field + size_field +
           little_endian(entry.name.size(), 2) + little_endian(extra.size(), 2) + little_endian(0, 2) +
           little_endian(0, 2) + little_endian(0, 2) + little_endian(0, 4) +
           little_endian(zip64 ? 0xffffffff : offset, 4) + entry.name + extra;
  }

  std::vector<Entry> entries_;
};

// Pieces of pickles, protocol 2.
namespace pickle {

inline std::string text(std::string_view value) {
  return fmt::format("X{}{}", little_endian(value.size(), 4), value);
}
inline std::string integer(std::int64_t value) {
  return "\x8a\x08" + little_endian(static_cast<std::uint64_t>(value), 8);
}
inline std::string global(std::string_view module, std::string_view name) {
  return fmt::format("c{}\n{}\n", module, name);
}
inline std::string tuple(const std::vector<std::string>& items) {
  std::string result = "(";
  for (const std::string& item : items) result += item;
  return result + "t";
}
inline std::string integers(const std::vector<std::int64_t>& values) {
  std::vector<std::string> items;
  for (const std::int64_t value : values) items.push_back(integer(value));
  return tuple(items);
}
inline std::string call(const std::string& function, const std::vector<std::string>& arguments) {
  return function + tuple(arguments) + "R";
}
inline std::string dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string result = "}(";
  for (const auto& [key, value] : items) result += text(key) + value;
  return result + "u";
}
inline std::string whole(const std::string& value) {
  return "\x80\x02" + value + ".";
}

inline std::string storage(std::string_view type, std::string_view key, std::int64_t size) {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), integer(size)}) + "Q";
}
inline std::string tensor(const std::string& storage, std::int64_t offset, const std::vector<std::int64_t>& shape,
                          const std::vector<std::int64_t>& strides) {
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              {storage, integer(offset), integers(shape), integers(strides), "\x89",
               global("collections", "OrderedDict") + ")R"});
}

}  // namespace pickle
}  // namespace molt
