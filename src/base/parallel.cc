#include "base/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace molt {
namespace {

// Long enough to bridge the serial gaps between the ops of one token, short enough that a waiting thread gives up its
// core almost at once when somebody else wants it.
constexpr auto kSpin = std::chrono::microseconds(20);

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Waits until `value` differs from `old`: spins for kSpin, then sleeps.
void wait_while_equal(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  const auto until = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      relax();
    }
  } while (std::chrono::steady_clock::now() < until);
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

constexpr std::uint32_t kOpen = 1U << 31;

thread_local bool inside = false;  // this thread is a worker, or runs a body

class Pool {
 public:
  static Pool& instance() {
    static Pool pool;
    return pool;
  }

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  void resize(int threads) {
    const std::lock_guard lock(busy_);
    stop_workers();
    start_workers(std::max(1, threads) - 1);
  }

  void run(std::int64_t n, std::int64_t grain, RangeFunction body) {
    std::unique_lock lock(busy_, std::defer_lock);
    // A body that calls parallel_for itself runs its inner loop on its own thread.
    if (inside || n <= grain || !lock.try_lock() || workers_.empty()) {
      for (std::int64_t begin = 0; begin < n; begin += grain) body(begin, std::min(n, begin + grain));
      return;
    }
    job_ = {n, grain, &body};
    next_.store(0, std::memory_order_relaxed);
    gate_.store(kOpen, std::memory_order_release);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    inside = true;
    work();
    inside = false;
    // Close the job and wait only for those workers that entered it: one that has not woken by now never delays us.
    gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
    for (std::uint32_t inside_now; (inside_now = gate_.load(std::memory_order_acquire)) != 0;) {
      wait_while_equal(gate_, inside_now);
    }
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  ~Pool() { stop_workers(); }

 private:
  struct Job {
    std::int64_t n = 0;
    std::int64_t grain = 1;
    const RangeFunction* body = nullptr;
  };

  Pool() { start_workers(available_cores() - 1); }

  static int available_cores() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
    return std::max(1U, std::thread::hardware_concurrency());
  }

  void start_workers(int count) {
    stopping_ = false;
    const std::uint32_t generation = generation_.load();
    for (int i = 0; i < count; ++i) workers_.emplace_back([this, generation] { worker(generation); });
  }

  void stop_workers() {
    stopping_ = true;
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (auto& thread : workers_) thread.join();
    workers_.clear();
  }

  void worker(std::uint32_t generation) {
    inside = true;
    for (;;) {
      wait_while_equal(generation_, generation);
      generation = generation_.load(std::memory_order_acquire);
      if (stopping_) return;
      if (!enter()) continue;
      work();
      if (gate_.fetch_sub(1, std::memory_order_acq_rel) == 1) gate_.notify_one();
    }
  }

  /// Joins the present job unless it has been closed.
  bool enter() {
    std::uint32_t gate = gate_.load(std::memory_order_acquire);
    while ((gate & kOpen) != 0) {
      if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }

  void work() {
    for (;;) {
      const std::int64_t begin = next_.fetch_add(job_.grain, std::memory_order_relaxed);
      if (begin >= job_.n) return;
      try {
        (*job_.body)(begin, std::min(job_.n, begin + job_.grain));
      } catch (...) {
        const std::lock_guard lock(error_mutex_);
        if (!error_) error_ = std::current_exception();
        next_.store(job_.n, std::memory_order_relaxed);
      }
    }
  }

  std::mutex busy_;  // held by the call that has the pool
  std::vector<std::thread> workers_;
  Job job_;
  std::atomic<std::int64_t> next_{0};
  std::atomic<std::uint32_t> generation_{0};  // grows with every job
  std::atomic<std::uint32_t> gate_{0};        // kOpen while a job takes workers, plus the workers inside it
  std::atomic<bool> stopping_{false};
  std::mutex error_mutex_;
  std::exception_ptr error_;
};

}  // namespace

void parallel_for(std::int64_t n, std::int64_t grain, RangeFunction body) {
  if (n <= 0) return;
  Pool::instance().run(n, std::max<std::int64_t>(1, grain), body);
}

int num_threads() {
  return Pool::instance().size();
}

void set_num_threads(int threads) {
  Pool::instance().resize(threads);
}

}  // namespace molt
