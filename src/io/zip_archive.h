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

namespace molt {

using ZipEntries = std::map<std::string, std::span<const std::byte>>;

/// The entries of the archive `bytes` by name, as slices of it; `where` stands in messages. Throws Error for whatever
/// is no archive, is truncated, compressed, encrypted or split, and for entries that overlap or share a name.
ZipEntries read_zip(std::span<const std::byte> bytes, const std::string& where);

}  // namespace molt
