#include "compress/pruned_layers.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "io/safetensors.h"

namespace molt {
namespace {

namespace fs = std::filesystem;

PrunedMatrix matrix_of(const Json& json) {
  PrunedMatrix matrix;
  matrix.name = json.at("name").get<std::string>();
  matrix.rows = json.at("shape").at(0).get<std::int64_t>();
  matrix.cols = json.at("shape").at(1).get<std::int64_t>();
  matrix.zeros = json.at("zeros").get<std::int64_t>();
  if (json.contains("squared_error")) {
    matrix.squared_error = json.at("squared_error").get<double>();
    matrix.squared_outputs = json.at("squared_outputs").get<double>();
  }
  return matrix;
}

}  // namespace

Json to_json(const PrunedMatrix& matrix) {
  Json json = {{"name", matrix.name},
               {"shape", {matrix.rows, matrix.cols}},
               {"zeros", matrix.zeros},
               {"sparsity", static_cast<double>(matrix.zeros) / static_cast<double>(matrix.weights())}};
  if (matrix.squared_error) {
    json["squared_error"] = *matrix.squared_error;
    json["squared_outputs"] = *matrix.squared_outputs;
    json["relative_error"] = *matrix.squared_outputs > 0 ? *matrix.squared_error / *matrix.squared_outputs : 0.0;
  }
  return json;
}

PrunedLayers::PrunedLayers(std::string folder, const Json& identity) : folder_(std::move(folder)) {
  std::error_code error;
  fs::create_directory(folder_, error);
  if (error) fail("{}: cannot create the folder: {}", folder_, error.message());
  lock_ = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock_ < 0) fail("{}: cannot open the folder: {}", folder_, std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    fail("{}: another process is at this run", folder_);
  }
  try {
    const std::string run = (fs::path(folder_) / "run.json").string();
    if (!fs::exists(run, error)) {
      write_file(run, identity.dump(2));
    } else if (const Json other = read_json_file(run); other != identity) {
      fail("{}: holds a run that was stopped, with other settings: {}; remove it, or name another folder to write",
           folder_, other.dump());
    }
  } catch (...) {
    ::close(lock_);
    throw;
  }
}

PrunedLayers::~PrunedLayers() {
  ::close(lock_);
}

std::string PrunedLayers::file(std::int64_t layer) const {
  return (fs::path(folder_) / fmt::format("layer-{:05}.safetensors", layer)).string();
}

std::optional<PrunedLayer> PrunedLayers::find(std::int64_t layer) const {
  const std::string path = file(layer);
  std::error_code error;
  if (!fs::exists(path, error)) return std::nullopt;
  const SafetensorsFile stored = read_safetensors(path);
  PrunedLayer pruned{stored.tensors, {}};
  try {
    for (const Json& entry : Json::parse(stored.metadata.at("matrices"))) {
      pruned.matrices.push_back(matrix_of(entry));
      static_cast<void>(pruned.weights.at(pruned.matrices.back().name));
    }
  } catch (const std::exception& fault) {  // of the JSON library, or a key that is not there
    fail("{}: is damaged ({}): remove it, and its layer is pruned again", path, fault.what());
  }
  return pruned;
}

void PrunedLayers::add(std::int64_t layer, const PrunedLayer& pruned) {
  Json matrices = Json::array();
  for (const PrunedMatrix& matrix : pruned.matrices) matrices.push_back(to_json(matrix));
  write_safetensors(file(layer), {pruned.weights.begin(), pruned.weights.end()}, {{"matrices", matrices.dump()}});
}

void PrunedLayers::remove() {
  std::error_code error;
  fs::remove_all(folder_, error);
  if (error) fail("{}: cannot remove the folder: {}", folder_, error.message());
}

}  // namespace molt
