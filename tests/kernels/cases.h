// THE case list: every operation of kernels/ops.h on ragged and even shapes, dtypes, accumulate and in-place modes. One
// list for every table: compare.h runs a case on a table and on the reference; a benchmark times the same closures.
//
// A case names its tensors (operands) and its calls once; the runner decides where the tensors live and in which dtype:
// the table gets the operands' own dtypes, the oracle gets the same rounded numbers with every float tensor in f64.
//
// The tolerance is derived, in two parts. A case's `bounds` give, for each element, the largest error that f32
// arithmetic may make (written beside each family, from the operands' magnitudes); the runner adds the rounding to the
// storage dtype. Both use probabilistic bounds: a sum of k rounded terms errs by at most kLambda * sqrt(k) * eps * sum
// |terms| (Higham and Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41(5),
// 2019), and exp, tanh, log and division are taken as good to kLambda roundings.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/check.h"
#include "kernels/ops.h"

namespace trident::cases {

using Values = std::vector<double>;

constexpr double kEps = dtype_epsilon(DType::f32);
constexpr double kLambda = 4;

enum class Use : uint8_t { in, out, inout };

/// One tensor of a case. `values` hold numbers that the dtype represents exactly; empty for `out` (the runner poisons
/// it).
struct Operand {
  std::string name;
  Use use = Use::in;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  Values values;
};

/// The tensors of one run of a case, by name, and scratch of the size that the table asks for.
class Arguments {
 public:
  virtual ~Arguments() = default;
  /// Throws InternalError for a name that the case has no operand of.
  virtual Tensor operator[](std::string_view name) const = 0;
  /// u8[bytes]; an absent tensor for 0 bytes. Valid until the run ends.
  virtual Tensor scratch(size_t bytes) = 0;
  virtual Stream stream() const = 0;
};

/// What the oracle saw and made, in f64.
class Oracle {
 public:
  Oracle(std::map<std::string, Values, std::less<>> before, std::map<std::string, Values, std::less<>> after)
      : before_(std::move(before)), after_(std::move(after)) {}
  const Values& before(std::string_view name) const { return before_.find(name)->second; }
  const Values& after(std::string_view name) const { return after_.find(name)->second; }

 private:
  std::map<std::string, Values, std::less<>> before_, after_;
};

/// Error bound of each element of an output, by name. An output that is not named must equal the rounded oracle
/// exactly.
using Bounds = std::map<std::string, Values>;

struct Case {
  std::string name;
  std::function<std::vector<Operand>()> operands;
  std::function<void(const Ops&, Arguments&)> run;
  std::function<Bounds(const Oracle&)> bounds;
  /// The case compares two calls bit for bit: its operands then share one alignment, for a table may sum a row in
  /// another order when it is not aligned.
  bool one_alignment = false;
};

std::vector<Case> gemm_cases();
std::vector<Case> norm_cases();
std::vector<Case> rope_cases();
std::vector<Case> attention_cases();
std::vector<Case> activation_cases();
std::vector<Case> dropout_cases();
std::vector<Case> elementwise_cases();
std::vector<Case> embedding_cases();
std::vector<Case> loss_cases();
std::vector<Case> optimizer_cases();
std::vector<Case> step_cases();
/// All of the above.
std::vector<Case> all_cases();

/// The nearest number that `dtype` represents.
double round_to(DType dtype, double x);

/// What rounding to `dtype` may add to its relative error near zero: below this its numbers may be flushed to zero, or
/// are spaced wider than its eps says.
double underflow(DType dtype);

/// Seeded numbers for operands: the same seed gives the same case on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : key_{seed, 0, random_purpose("tests.kernels.cases")} {}
  /// n normal numbers with this mean and deviation, rounded to dtype.
  Values normal(DType dtype, int64_t n, double deviation = 1, double mean = 0);
  /// n integers in [begin, end).
  Values integers(int64_t n, int64_t begin, int64_t end);

 private:
  RandomKey key_;
  uint64_t next_ = 0;
};

/// A seed from the case's name.
uint64_t seed_of(std::string_view name);

/// |x| elementwise.
Values magnitudes(const Values& x);

}  // namespace trident::cases
