// WeightLoader: hands a model's weights to its blocks, and notes everything that is wrong with them.
//
// Blocks ask for tensors by the Hugging Face names; an architecture's naming turns those into the file's. What is
// missing or misshapen is noted and a harmless stand-in returned, so that finish() can list every fault in one error.
// Used by one thread, during loading only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "model/quantized_weights.h"
#include "tensor/tensor.h"

namespace molt {

/// How much of a source is stored as a certain type.
struct StoredType {
  std::int64_t tensors = 0;
  std::int64_t bytes = 0;
};

/// Where tensors come from: a checkpoint, or a generator of random ones.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  /// The tensor of that name, nothing when there is none. `shape` is what the caller expects; a file may ignore it.
  virtual std::optional<Tensor> find(const std::string& name, const Shape& shape) const = 0;

  /// Whether the source holds a tensor of that name; false when it makes what it is asked for.
  virtual bool has(const std::string& name) const = 0;

  /// All names, for reporting those that nobody asked for; empty when the source makes what it is asked for.
  virtual std::vector<std::string> names() const = 0;

  /// The tensor of one of names(), as it lies in the source: quantized ones as their bytes.
  virtual Tensor stored(const std::string& name) const { return find(name, {}).value(); }

  /// What it stores by type; empty when the source makes what it is asked for.
  virtual std::map<std::string, StoredType> stored_types() const { return {}; }

  /// Gives back the memory that holds what was handed out so far, where it can be fetched again when it is wanted.
  virtual void drop_pages() const {}

  /// How messages call it: a path.
  virtual std::string description() const = 0;
};

/// Sees what goes into the products of a model's weight matrices, while the model is run for calibration.
class InputObserver {
 public:
  virtual ~InputObserver() = default;

  /// `x` [T, in] is about to be multiplied by the matrix of that (canonical) name. Called on the thread that runs the
  /// block; what it throws ends the block's forward pass.
  virtual void input(const std::string& matrix, Matrix<const float> x) = 0;
};

class WeightLoader {
 public:
  using Naming = std::function<std::string(const std::string&)>;

  /// `source` and `backend` must outlive the loader. Matrices that the source holds quantized stay so; of the others
  /// those that `plan` has a format for are rounded to the nearest value, the rest are packed in `dtype` (f32 or bf16).
  WeightLoader(const WeightSource& source, Naming naming, const Backend& backend, DType dtype,
               std::optional<QuantizationPlan> plan = std::nullopt);

  /// A weight matrix [out, in], packed for matmul. The source may forget what it read for it.
  std::unique_ptr<PackedMatrix> matrix(const std::string& name, std::int64_t out, std::int64_t in);

  /// Whether matrix() gives it quantized.
  bool quantizes(const std::string& name) const;

  /// The formats of all matrices so far: "bf16"; "int4 in groups of 64, int8".
  std::string formats() const;

  /// A small tensor as float32, of its own, on the host.
  Tensor vector(const std::string& name, const Shape& shape);

  /// `tensor` in the backend's memory.
  Tensor place(const Tensor& tensor) const { return backend_.memory().place(tensor); }

  /// A small tensor as float32 in the backend's memory.
  Tensor placed_vector(const std::string& name, const Shape& shape) { return place(vector(name, shape)); }

  /// The tensor as it lies in the source, in its own dtype.
  Tensor raw(const std::string& name, const Shape& shape);

  /// Whether the source holds it.
  bool has(const std::string& name) const;

  /// Accepts a tensor that the model does not use (a tied head that was saved all the same).
  void ignore(const std::string& name);

  /// Matrices that are loaded from here on tell `observer`, which must outlive them, what they are multiplied by.
  void observe(InputObserver* observer) { observer_ = observer; }
  InputObserver* observer() const { return observer_; }

  /// Throws Error that lists missing, misshapen and unexpected tensors, if there are any.
  void finish() const;

  const Backend& backend() const { return backend_; }
  DType dtype() const { return dtype_; }

 private:
  /// Takes the place of a tensor that is not there. Throws what finish() would, as far as is known, when the model
  /// that the configuration describes is so large that even its stand-ins are out of proportion.
  Tensor stand_in(const Shape& shape);

  [[noreturn]] void report(std::vector<std::string> faults, const char* remark) const;

  std::unique_ptr<PackedMatrix> read_matrix(const std::string& name, std::int64_t out, std::int64_t in);

  std::unique_ptr<PackedMatrix> pack(const QuantizedMatrix& matrix);

  std::optional<Tensor> take(const std::string& name, const Shape& shape);

  const WeightSource& source_;
  Naming naming_;
  const Backend& backend_;
  DType dtype_;
  InputObserver* observer_ = nullptr;
  std::optional<QuantizationPlan> plan_;
  std::set<std::string> formats_;
  std::set<std::string> asked_;
  std::vector<std::string> faults_;
  std::int64_t stand_in_floats_ = 0;
};

}  // namespace molt
