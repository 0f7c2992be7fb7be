// The directory of a zip archive whose entries are stored uncompressed (PKWARE APPNOTE 6.3, with ZIP64).
//
// Only the central directory decides what the archive holds; every local header is checked against it, so that no two
// readers can see different contents. Checksums are not verified: PyTorch may leave them out.
//
// Thread-safety: a free function without state.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace molt {

using ZipEntries = std::map<std::string, std::span<const std::byte>>;

/// The entries of the archive `bytes` by name, as slices of it; `where` stands in messages. Throws Error for whatever
/// is no archive, is truncated, compressed, encrypted or split, and for entries that overlap or share a name.
ZipEntries read_zip(std::span<const std::byte> bytes, const std::string& where);

/// Of each entry the offsets in the archive at which its checksum (CRC-32, 4 bytes, little-endian) stands: in the
/// directory, and before or behind its data; none where the directory has none (0). Throws Error as read_zip() does.
std::map<std::string, std::vector<std::size_t>> zip_checksums(std::span<const std::byte> bytes,
                                                              const std::string& where);

/// Whether `bytes` begin as an archive's do.
bool is_zip(std::span<const std::byte> bytes);

}  // namespace molt
