// CRC-32 as zip archives use it (polynomial 0x04C11DB7, reflected; ISO 3309).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace molt {

/// The checksum of bytes whose checksum up to `bytes` was `before` (0: nothing before).
std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t before = 0);

}  // namespace molt
