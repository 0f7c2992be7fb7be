#include "io/zip_archive.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "io/untrusted.h"

namespace molt {
namespace {

using Bytes = std::span<const std::byte>;

// Sizes of the fixed parts of records, and their signatures.
constexpr std::uint32_t kLocalSignature = 0x04034b50;
constexpr std::size_t kLocalSize = 30;
constexpr std::uint32_t kCentralSignature = 0x02014b50;
constexpr std::size_t kCentralSize = 46;
constexpr std::uint32_t kEndSignature = 0x06054b50;
constexpr std::size_t kEndSize = 22;
constexpr std::uint32_t kEnd64Signature = 0x06064b50;
constexpr std::size_t kEnd64Size = 56;
constexpr std::uint32_t kLocatorSignature = 0x07064b50;
constexpr std::size_t kLocatorSize = 20;
constexpr std::size_t kMaxComment = 0xffff;
constexpr std::uint32_t kDescriptorSignature = 0x08074b50;  // of what follows an entry's data; may be left out

constexpr std::uint16_t kEncrypted = 1 << 0;    // bits of an entry's flags
constexpr std::uint16_t kSizesFollow = 1 << 3;  // the local header does not know the sizes
constexpr std::uint16_t kZip64Field = 0x0001;   // the extra field of 64-bit sizes
constexpr std::uint32_t kIn64 = 0xffffffff;     // "see the ZIP64 record"
constexpr std::uint16_t kIn64Short = 0xffff;

/// Where the central directory lies.
struct Directory {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint64_t entries = 0;
};

struct Entry {
  std::string name;
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  std::uint64_t compressed = 0;
  std::uint64_t size = 0;
  std::uint64_t offset = 0;  // of the local header
  std::uint64_t disk = 0;
};

class ZipReader {
 public:
  ZipReader(Bytes bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  ZipEntries read() const {
    struct Extent {
      std::uint64_t begin;
      std::uint64_t end;
      const std::string* name;
    };
    const Directory directory = find_directory();
    ZipEntries entries;
    std::vector<Extent> extents;
    std::uint64_t at = directory.offset;
    for (std::uint64_t i = 0; i < directory.entries; ++i) {
      Entry entry = central_entry(at, directory.offset + directory.size);
      const Bytes data = entry_data(entry, directory.offset);
      const auto [slot, fresh] = entries.emplace(std::move(entry.name), data);
      if (!fresh) fail("{}: the archive has two entries named {}", where_, quote(slot->first));
      const auto end = static_cast<std::uint64_t>(data.data() - bytes_.data()) + data.size();
      extents.push_back({entry.offset, end, &slot->first});
    }
    if (at != directory.offset + directory.size) {
      fail("{}: the archive's directory holds more than the {} entries it announces", where_, directory.entries);
    }
    std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
    for (std::size_t i = 1; i < extents.size(); ++i) {
      if (extents[i].begin < extents[i - 1].end) {
        fail("{}: the archive's entries {} and {} overlap", where_, quote(*extents[i - 1].name),
             quote(*extents[i].name));
      }
    }
    return entries;
  }

  std::map<std::string, std::vector<std::size_t>> checksums() const {
    std::map<std::string, std::vector<std::size_t>> places;
    const Directory directory = find_directory();
    std::uint64_t at = directory.offset;
    for (std::uint64_t i = 0; i < directory.entries; ++i) {
      const auto checksum = load<std::uint32_t>(at + 16);
      std::vector<std::size_t> found = {static_cast<std::size_t>(at + 16)};
      const Entry entry = central_entry(at, directory.offset + directory.size);
      const Bytes data = entry_data(entry, directory.offset);
      const auto end = static_cast<std::uint64_t>(data.data() - bytes_.data()) + data.size();
      // Only what holds the directory's value is a checksum: writers differ in what they leave out.
      for (const std::uint64_t place : {entry.offset + 14, end, end + 4}) {
        if (!fits(place, 4) || load<std::uint32_t>(place) != checksum) continue;
        if (place == end + 4 && load<std::uint32_t>(end) != kDescriptorSignature) continue;
        if (place == end && (entry.flags & kSizesFollow) == 0) continue;
        found.push_back(static_cast<std::size_t>(place));
      }
      if (checksum == 0) found.clear();
      places[entry.name] = std::move(found);
    }
    return places;
  }

 private:
  template <class T>
  T load(std::uint64_t offset) const {
    return load_little_endian<T>(bytes_, static_cast<std::size_t>(offset));
  }
  [[noreturn]] void truncated() const { fail("{}: the archive is truncated or corrupt; fetch it again", where_); }
  bool fits(std::uint64_t offset, std::uint64_t size) const {
    return offset <= bytes_.size() && size <= bytes_.size() - offset;
  }

  /// The end record: the last one whose comment reaches exactly to the end of the file.
  std::uint64_t find_end() const {
    if (bytes_.size() >= kEndSize) {
      const std::size_t last = bytes_.size() - kEndSize;
      for (std::size_t comment = 0; comment <= std::min(last, kMaxComment); ++comment) {
        const std::size_t at = last - comment;
        if (load<std::uint32_t>(at) == kEndSignature && load<std::uint16_t>(at + 20) == comment) return at;
      }
    }
    fail("{}: the zip archive has no end record: it is truncated or corrupt; fetch it again", where_);
  }

  Directory find_directory() const {
    const std::uint64_t end = find_end();
    Directory directory{load<std::uint32_t>(end + 16), load<std::uint32_t>(end + 12), load<std::uint16_t>(end + 10)};
    std::uint64_t limit = end;
    if (load<std::uint16_t>(end + 4) != load<std::uint16_t>(end + 6)) split();
    if (end >= kLocatorSize && load<std::uint32_t>(end - kLocatorSize) == kLocatorSignature) {
      limit = load<std::uint64_t>(end - kLocatorSize + 8);
      directory = zip64_directory(limit, end - kLocatorSize, directory);
    } else if (load<std::uint16_t>(end + 4) != 0 || load<std::uint16_t>(end + 8) != directory.entries) {
      split();
    }
    if (directory.offset > limit || directory.size > limit - directory.offset) truncated();
    if (directory.entries > directory.size / kCentralSize) {
      fail("{}: the archive announces {} entries in a directory of {} bytes: it is corrupt; fetch it again", where_,
           directory.entries, directory.size);
    }
    return directory;
  }

  /// The directory by the ZIP64 end record at `at`, which must lie before `limit` and agree with the plain one.
  Directory zip64_directory(std::uint64_t at, std::uint64_t limit, const Directory& plain) const {
    if (at > limit || limit - at < kEnd64Size || load<std::uint32_t>(at) != kEnd64Signature) truncated();
    if (load<std::uint32_t>(at + 16) != 0 || load<std::uint32_t>(at + 20) != 0) split();
    const Directory wide{load<std::uint64_t>(at + 48), load<std::uint64_t>(at + 40), load<std::uint64_t>(at + 32)};
    const bool agree = (plain.offset == kIn64 || plain.offset == wide.offset) &&
                       (plain.size == kIn64 || plain.size == wide.size) &&
                       (plain.entries == kIn64Short || plain.entries == wide.entries);
    if (!agree) fail("{}: the archive's two end records contradict each other: it is corrupt; fetch it again", where_);
    return wide;
  }

  [[noreturn]] void split() const { fail("{}: the archive is split over several files; join them first", where_); }

  /// The directory's entry at `at`, which moves behind it.
  Entry central_entry(std::uint64_t& at, std::uint64_t end) const {
    if (end - at < kCentralSize || load<std::uint32_t>(at) != kCentralSignature) truncated();
    const std::uint64_t name_size = load<std::uint16_t>(at + 28);
    const std::uint64_t extra_size = load<std::uint16_t>(at + 30);
    const std::uint64_t comment_size = load<std::uint16_t>(at + 32);
    if (end - at - kCentralSize < name_size + extra_size + comment_size) truncated();
    Entry entry{.name = text(at + kCentralSize, name_size),
                .flags = load<std::uint16_t>(at + 8),
                .method = load<std::uint16_t>(at + 10),
                .compressed = load<std::uint32_t>(at + 20),
                .size = load<std::uint32_t>(at + 24),
                .offset = load<std::uint32_t>(at + 42),
                .disk = load<std::uint16_t>(at + 34)};
    widen(entry, bytes_.subspan(static_cast<std::size_t>(at + kCentralSize + name_size),
                                static_cast<std::size_t>(extra_size)));
    at += kCentralSize + name_size + extra_size + comment_size;
    return entry;
  }

  /// Replaces what is marked so by the values of the ZIP64 extra field, which come in this order.
  void widen(Entry& entry, Bytes extra) const {
    if (entry.size != kIn64 && entry.compressed != kIn64 && entry.offset != kIn64) return;
    while (extra.size() >= 4) {
      const auto id = load_little_endian<std::uint16_t>(extra, 0);
      const auto size = load_little_endian<std::uint16_t>(extra, 2);
      if (extra.size() - 4 < size) truncated();
      Bytes field = extra.subspan(4, size);
      extra = extra.subspan(4U + size);
      if (id != kZip64Field) continue;
      for (std::uint64_t* value : {&entry.size, &entry.compressed, &entry.offset}) {
        if (*value != kIn64) continue;
        if (field.size() < 8) truncated();
        *value = load_little_endian<std::uint64_t>(field, 0);
        field = field.subspan(8);
      }
      return;
    }
  }

  /// The bytes of an entry, which must end before the directory.
  Bytes entry_data(const Entry& entry, std::uint64_t limit) const {
    const std::string name = quote(entry.name);
    if (entry.disk != 0) split();
    if ((entry.flags & kEncrypted) != 0) fail("{}: the archive's entry {} is encrypted", where_, name);
    if (entry.method != 0) {
      fail(
          "{}: the archive's entry {} is compressed (method {}); PyTorch stores entries uncompressed: unpack the "
          "archive "
          "and pack it again without compression (zip -0)",
          where_, name, entry.method);
    }
    if (entry.compressed != entry.size) fail("{}: the archive's entry {} has two sizes: it is corrupt", where_, name);
    if (entry.offset > limit || limit - entry.offset < kLocalSize) truncated();
    if (load<std::uint32_t>(entry.offset) != kLocalSignature) truncated();
    const std::uint64_t name_size = load<std::uint16_t>(entry.offset + 26);
    const std::uint64_t extra_size = load<std::uint16_t>(entry.offset + 28);
    const std::uint64_t room = limit - entry.offset - kLocalSize;
    if (room < name_size + extra_size || room - name_size - extra_size < entry.size) truncated();
    check_local(entry, name_size);
    const std::uint64_t begin = entry.offset + kLocalSize + name_size + extra_size;
    return bytes_.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(entry.size));
  }

  void check_local(const Entry& entry, std::uint64_t name_size) const {
    const auto flags = load<std::uint16_t>(entry.offset + 6);
    const auto compressed = load<std::uint32_t>(entry.offset + 18);
    const auto size = load<std::uint32_t>(entry.offset + 22);
    const bool sizes_known = (flags & kSizesFollow) == 0 && compressed != kIn64 && size != kIn64;
    const bool agree = load<std::uint16_t>(entry.offset + 8) == entry.method && (flags & kEncrypted) == 0 &&
                       text(entry.offset + kLocalSize, name_size) == entry.name &&
                       (!sizes_known || (compressed == entry.compressed && size == entry.size));
    if (!agree) {
      fail("{}: the archive's entry {} differs from the directory: it is corrupt; fetch it again", where_,
           quote(entry.name));
    }
  }

  std::string text(std::uint64_t offset, std::uint64_t size) const {
    if (!fits(offset, size)) truncated();
    return {reinterpret_cast<const char*>(bytes_.data()) + offset, static_cast<std::size_t>(size)};
  }

  Bytes bytes_;
  const std::string& where_;
};

}  // namespace

ZipEntries read_zip(std::span<const std::byte> bytes, const std::string& where) {
  return ZipReader(bytes, where).read();
}

std::map<std::string, std::vector<std::size_t>> zip_checksums(std::span<const std::byte> bytes,
                                                              const std::string& where) {
  return ZipReader(bytes, where).checksums();
}

bool is_zip(std::span<const std::byte> bytes) {
  return bytes.size() >= 4 && load_little_endian<std::uint32_t>(bytes, 0) == kLocalSignature;
}

}  // namespace molt
