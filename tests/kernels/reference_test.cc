// The reference backend against values worked out by hand and against itself by another way.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "molt/error.h"
#include "tests/kernels/problems.h"

namespace molt::testing_kernels {
namespace {

const std::shared_ptr<const Backend> kReference = make_backend("reference");

double silu(double x) {
  return x / (1 + std::exp(-x));
}

TEST(Reference, UnknownBackendsAreRefusedWithTheKnownOnes) {
  try {
    make_backend("abacus");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("abacus"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("cpu, reference"), std::string::npos);
  }
}

TEST(Reference, MatmulRoundsBothSidesToBf16) {
  const float fine = 1.0F + 0x1p-10F;  // one, as a bfloat16
  Tensor weight = Tensor::zeros(DType::f32, {2, 2});
  const std::array<float, 4> values{1, fine, 2, -1};
  std::copy(values.begin(), values.end(), weight.as<float>());
  const Floats x{3, fine}, bias{10, 20};
  Floats y(2);
  kReference->matmul({x.data(), 1, 2}, *kReference->pack(weight, DType::f32), bias.data(), {y.data(), 1, 2});
  EXPECT_FLOAT_EQ(y[0], 13 + fine * fine);
  EXPECT_FLOAT_EQ(y[1], 26 - fine);
  kReference->matmul({x.data(), 1, 2}, *kReference->pack(weight, DType::bf16), nullptr, {y.data(), 1, 2});
  EXPECT_EQ(y[0], 4);
  EXPECT_EQ(y[1], 5);
}

TEST(Reference, NormsByHand) {
  const Floats x{3, 4}, weight{1, 2}, z{0.5F, -1};
  Floats y(2);
  kReference->rms_norm({x.data(), 1, 2}, weight.data(), 0.5F, {y.data(), 1, 2});  // mean of squares 12.5, root of 13
  EXPECT_FLOAT_EQ(y[0], static_cast<float>(3 / std::sqrt(13.0)));
  EXPECT_FLOAT_EQ(y[1], static_cast<float>(8 / std::sqrt(13.0)));
  Floats residual{1, 3};
  const Floats h{2, 1};
  kReference->add_rms_norm({residual.data(), 1, 2}, {h.data(), 1, 2}, nullptr, 0.5F, {y.data(), 1, 2});
  EXPECT_EQ(residual, x);
  EXPECT_FLOAT_EQ(y[1], static_cast<float>(4 / std::sqrt(13.0)));
  kReference->gated_rms_norm({x.data(), 1, 2}, {z.data(), 1, 2}, weight.data(), 0, 1, true, {y.data(), 1, 2});
  EXPECT_FLOAT_EQ(y[0], static_cast<float>(silu(0.5)));  // a group of one is normalised to its sign
  EXPECT_FLOAT_EQ(y[1], static_cast<float>(2 * silu(-1)));
  kReference->gated_rms_norm({x.data(), 1, 2}, {z.data(), 1, 2}, nullptr, 0, 2, false, {y.data(), 1, 2});
  const double a = 3 * silu(0.5), b = 4 * silu(-1);
  EXPECT_FLOAT_EQ(y[0], static_cast<float>(a / std::sqrt((a * a + b * b) / 2)));
  EXPECT_FLOAT_EQ(y[1], static_cast<float>(b / std::sqrt((a * a + b * b) / 2)));
}

TEST(Reference, LayerNormAndReluByHand) {
  const Floats x{1, 2, 6}, weight{1, 2, -1}, bias{0, 10, 1};  // mean 3, variance (4 + 1 + 9) / 3
  Floats y(3);
  kReference->layer_norm({x.data(), 1, 3}, weight.data(), bias.data(), 0.25F, {y.data(), 1, 3});
  const double root = std::sqrt(14.0 / 3 + 0.25);
  EXPECT_FLOAT_EQ(y[0], static_cast<float>(-2 / root));
  EXPECT_FLOAT_EQ(y[1], static_cast<float>(-2 / root + 10));
  EXPECT_FLOAT_EQ(y[2], static_cast<float>(-3 / root + 1));
  kReference->layer_norm({x.data(), 3, 1}, weight.data(), bias.data() + 1, 0.25F, {y.data(), 3, 1});
  EXPECT_EQ(y, (Floats{10, 10, 10}));  // one column is its own mean
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Floats v{-1, nan, 2};
  kReference->relu({v.data(), 1, 3}, {y.data(), 1, 3});
  EXPECT_EQ(y[0], 0);
  EXPECT_TRUE(std::isnan(y[1]));
  EXPECT_EQ(y[2], 2);
}

TEST(Reference, ConvolutionByHand) {
  const Floats x{1, 2, 3}, weight{10, 100, 1000};
  Floats state{-2, -1}, y(3);  // x[-2], x[-1]
  float* const states = state.data();
  const float bias = -1000;
  kReference->causal_conv({x.data(), 3, 1}, {weight.data(), 3, 1}, &bias, std::vector<std::int64_t>{0, 3}, {&states, 1},
                          {y.data(), 3, 1});
  EXPECT_FLOAT_EQ(y[0], static_cast<float>(silu(-20 - 100 + 1000 - 1000)));
  EXPECT_FLOAT_EQ(y[1], static_cast<float>(silu(-10 + 100 + 2000 - 1000)));
  EXPECT_FLOAT_EQ(y[2], static_cast<float>(silu(10 + 200 + 3000 - 1000)));
  EXPECT_EQ(state, (Floats{2, 3}));
}

TEST(Reference, SelectiveScanByHand) {
  const Floats x{2, 5}, dt{0.5F, 0.25F}, A{-1, -2}, B{1, 3, 2, 4}, C{1, 1, 2, 1}, D{10}, m{1, 3};
  Floats state{7, 8}, y(2);
  float* const states = state.data();
  kReference->selective_scan({x.data(), 2, 1}, {dt.data(), 2, 1}, {A.data(), 2, 1}, {B.data(), 2, 2}, {C.data(), 2, 2},
                             D.data(), {std::vector<std::int64_t>{0, 2}, {&states, 1}, m.data()}, {y.data(), 2, 1});
  const double h0 = std::exp(-0.5) * 7 + 0.5 * 1 * 2, h1 = std::exp(-1.0) * 8 + 0.5 * 3 * 2;
  const double k0 = std::exp(-0.75) * h0 + 0.25 * 2 * 5, k1 = std::exp(-1.5) * h1 + 0.25 * 4 * 5;
  EXPECT_FLOAT_EQ(y[0], static_cast<float>(h0 + h1 + 20));
  EXPECT_FLOAT_EQ(y[1], static_cast<float>(2 * k0 + k1 + 50));
  EXPECT_FLOAT_EQ(state[0], static_cast<float>(k0));
  EXPECT_FLOAT_EQ(state[1], static_cast<float>(k1));
}

// A head of Mamba-2 is Mamba-1 whose channels share dt and whose A is one number.
TEST(Reference, SsdIsTheSelectiveScanWithSharedSteps) {
  constexpr std::int64_t kRows = 20, H = 6, P = 3, N = 4, G = 2;
  Random random(5);
  const Rows x(kRows, H * P, 2, random), B(kRows, G * N, 1, random), C(kRows, G * N, 0, random);
  Rows dt(kRows, H, 3);
  dt.fill([&] { return random.uniform(0.01F, 1); });
  const Floats A{-0.1F, -0.5F, -1, -2, -4, -8}, D = random.normals(H * P), m = random_multiplicities(random, kRows);
  const Floats start = random.normals(H * N * P);
  const std::vector<std::int64_t> offsets{0, 13, 20};

  Floats first = start, second = start;
  const std::vector<float*> ssd_states{first.data(), second.data()};
  Rows y(kRows, H * P, 0);
  kReference->ssd(x.matrix(), dt.matrix(), A, B.matrix(), C.matrix(), G, D, {offsets, ssd_states, m.data()},
                  y.matrix());

  for (std::int64_t h = 0; h < H; ++h) {
    Rows shared_dt(kRows, P, 0), shared_A(N, P, 0), out(kRows, P, 0);
    for (std::int64_t t = 0; t < kRows; ++t) {
      for (std::int64_t p = 0; p < P; ++p) shared_dt.matrix()(t, p) = dt.matrix()(t, h);
    }
    shared_A.fill([&] { return A[static_cast<std::size_t>(h)]; });
    const std::int64_t g = h / (H / G);
    Floats one(start.begin() + h * N * P, start.begin() + (h + 1) * N * P), two = one;
    const std::vector<float*> states{one.data(), two.data()};
    kReference->selective_scan(std::as_const(x).matrix().col_range(h * P, h * P + P), shared_dt.matrix(),
                               shared_A.matrix(), std::as_const(B).matrix().col_range(g * N, g * N + N),
                               std::as_const(C).matrix().col_range(g * N, g * N + N), D.data() + h * P,
                               {offsets, states, m.data()}, out.matrix());
    for (std::int64_t t = 0; t < kRows; ++t) {
      for (std::int64_t p = 0; p < P; ++p) EXPECT_FLOAT_EQ(y.matrix()(t, h * P + p), out.matrix()(t, p));
    }
    for (std::int64_t i = 0; i < N * P; ++i) {
      EXPECT_FLOAT_EQ(first[static_cast<std::size_t>(h * N * P + i)], one[static_cast<std::size_t>(i)]);
      EXPECT_FLOAT_EQ(second[static_cast<std::size_t>(h * N * P + i)], two[static_cast<std::size_t>(i)]);
    }
  }
}

TEST(Reference, ImportanceByHand) {
  const Floats y{3, -1, 0, 2, -5, -5, -5, -5};
  const auto scores = [&](Importance metric) {
    Floats s(2);
    kReference->importance({y.data(), 2, 4}, metric, s.data());
    return s;
  };
  EXPECT_EQ(scores(Importance::clip), (Floats{1.25F, 0}));
  EXPECT_EQ(scores(Importance::l1), (Floats{1.5F, 5}));
  EXPECT_EQ(scores(Importance::l2), (Floats{std::sqrt(3.5F), 5}));
  EXPECT_EQ(scores(Importance::signed_mean), (Floats{1, -5}));
}

TEST(Reference, BestMatchByHand) {
  const Floats x{1, 0, 0, 2, 3, 3, 1, -4, 5, 0.5F};  // east, north, north-east, south, east
  const std::vector<std::int64_t> sources{0, 3}, targets{1, 2, 4};
  std::vector<std::int64_t> match(2);
  Floats similarity(2);
  const auto cosine = [](double a, double b, double c, double d) {
    return static_cast<float>((a * c + b * d) / std::sqrt((a * a + b * b) * (c * c + d * d)));
  };
  kReference->best_match({x.data(), 5, 2}, sources, targets, false, match.data(), similarity.data());
  EXPECT_EQ(match, (std::vector<std::int64_t>{4, 4}));
  EXPECT_FLOAT_EQ(similarity[0], cosine(1, 0, 5, 0.5));
  EXPECT_FLOAT_EQ(similarity[1], cosine(1, -4, 5, 0.5));
  kReference->best_match({x.data(), 5, 2}, sources, std::vector<std::int64_t>{1, 2}, true, match.data(),
                         similarity.data());
  EXPECT_EQ(match, (std::vector<std::int64_t>{2, -1}));
  EXPECT_FLOAT_EQ(similarity[0], std::sqrt(0.5F));
}

TEST(Reference, MergesByHand) {
  const Floats x{1, 10, 2, 20, 3, 30, 4, 40};
  const std::vector<RowMerge> merges{{3, 0}, {1, 0}};
  Floats plain = x, weighted = x, cancelling = x;
  kReference->merge_rows({plain.data(), 4, 2}, merges, nullptr);
  EXPECT_FLOAT_EQ(plain[0], 7.0F / 3);
  EXPECT_FLOAT_EQ(plain[1], 70.0F / 3);
  EXPECT_EQ(Floats(plain.begin() + 2, plain.end()), Floats(x.begin() + 2, x.end()));
  const Floats weights{1, 5, -9, 2}, zero_sum{1, 1, 7, -2};
  kReference->merge_rows({weighted.data(), 4, 2}, merges, weights.data());
  EXPECT_FLOAT_EQ(weighted[0], (1 * 1 + 2 * 5 + 4 * 2) / 8.0F);
  kReference->merge_rows({cancelling.data(), 4, 2}, merges, zero_sum.data());
  EXPECT_EQ(cancelling, plain);
}

TEST(Reference, MovesRows) {
  Floats x{1, 2, 3, 4, 5, 6}, y(4);
  kReference->gather_rows({x.data(), 3, 2}, std::vector<std::int64_t>{2, 0}, {y.data(), 2, 2});
  EXPECT_EQ(y, (Floats{5, 6, 1, 2}));
  kReference->scatter_rows({y.data(), 2, 2}, std::vector<std::int64_t>{1, 2}, {x.data(), 3, 2});
  EXPECT_EQ(x, (Floats{1, 2, 5, 6, 1, 2}));
  kReference->gather_rows({x.data(), 3, 2}, std::vector<std::int64_t>{1, 2}, {x.data(), 2, 2});
  EXPECT_EQ(x, (Floats{5, 6, 1, 2, 1, 2}));
}

// A state of one head and one channel, whose rows write to different places, holds each row's write as its norm there.
TEST(Reference, ContributionsAreTheSharesOfTheLastState) {
  constexpr std::int64_t kRows = 5;
  const Floats x{2, -1, 3, 0.5F, -2}, dt{0.3F, 0.1F, 0.7F, 0.2F, 0.4F}, m{1, 3, 1, 2, 1}, A{-1.5F};
  Floats B(kRows * kRows), C(kRows * kRows);
  for (std::int64_t t = 0; t < kRows; ++t) B[static_cast<std::size_t>(t * kRows + t)] = t % 2 == 0 ? 1.0F : -2.0F;
  Floats state(kRows), y(kRows), c(kRows), scan_c(kRows);
  float* const states = state.data();
  const std::vector<std::int64_t> offsets{0, kRows};
  const Matrix<const float> x_rows(x.data(), kRows, 1), dt_rows(dt.data(), kRows, 1), B_rows(B.data(), kRows, kRows);
  kReference->ssd(x_rows, dt_rows, A, B_rows, {C.data(), kRows, kRows}, 1, {}, {offsets, {&states, 1}, m.data()},
                  {y.data(), kRows, 1});
  kReference->ssd_contribution(x_rows, dt_rows, A, B_rows, 1, m.data(), offsets, c.data());
  const Floats A_states(kRows, A[0]);
  kReference->selective_scan_contribution(x_rows, dt_rows, {A_states.data(), kRows, 1}, B_rows, m.data(), offsets,
                                          scan_c.data());
  float sum = 0;
  for (const float s : state) sum += std::fabs(s);
  for (std::size_t t = 0; t < kRows; ++t) {
    EXPECT_NEAR(c[t], std::fabs(state[t]) / sum, 1e-6);
    EXPECT_NEAR(scan_c[t], c[t], 1e-6);
  }
}

TEST(Reference, ContributionsOfNothingAreZero) {
  const Floats x{1, 2}, dt{0, 0}, A{-1}, B{1, 1};
  Floats c{7, 7};
  const std::vector<std::int64_t> offsets{0, 2};
  kReference->ssd_contribution({x.data(), 2, 1}, {dt.data(), 2, 1}, A, {B.data(), 2, 1}, 1, nullptr, offsets, c.data());
  EXPECT_EQ(c, (Floats{0, 0}));
}

}  // namespace
}  // namespace molt::testing_kernels
