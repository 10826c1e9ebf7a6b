// A safetensors file as others might have written it: any JSON, any data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace understudy::fakes {

/// The prefix, `json` and `data_nbytes` bytes that count up.
inline void write_safetensors(const std::filesystem::path& path, const std::string& json,
                              std::uint64_t data_nbytes) {
  std::ofstream out(path, std::ios::binary);
  for (int i = 0; i < 8; ++i) out.put(static_cast<char>(json.size() >> (8 * i)));
  out << json;
  for (std::uint64_t i = 0; i < data_nbytes; ++i) out.put(static_cast<char>(i));
}

}  // namespace understudy::fakes
