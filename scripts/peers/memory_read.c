// Prints the rate, in bytes per second, at which T threads together read memory: each its own part
// of a gigabyte, far larger than any cache; the best of several passes.
//
//   cc -O3 -march=native -pthread memory_read.c -o memory_read && ./memory_read THREADS
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { kMaxThreads = 256, kPasses = 7 };
static const size_t kBytes = (size_t)1 << 30;

typedef struct {
  const uint64_t* begin;
  size_t words;
  uint64_t sum;
} Part;

// Independent sums, so that the compiler vectorises and no addition waits for the one before it.
static void* read_part(void* argument) {
  enum { kLanes = 64 };
  Part* part = argument;
  uint64_t sums[kLanes] = {0};
  for (size_t i = 0; i + kLanes <= part->words; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += part->begin[i + lane];
  }
  for (size_t lane = 0; lane < kLanes; ++lane) part->sum += sums[lane];
  return NULL;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

int main(int argc, char** argv) {
  const int threads = argc == 2 ? atoi(argv[1]) : 0;
  if (threads < 1 || threads > kMaxThreads) {
    fprintf(stderr, "usage: memory_read THREADS (1 to %d)\n", kMaxThreads);
    return 2;
  }
  uint64_t* memory = aligned_alloc(1 << 21, kBytes);
  if (!memory) {
    fprintf(stderr, "memory_read: no memory for %zu bytes\n", kBytes);
    return 1;
  }
#ifdef MADV_HUGEPAGE
  madvise(memory, kBytes, MADV_HUGEPAGE);  // faster by a tenth to a half; a wish, which the system may not grant
#endif
  memset(memory, 1, kBytes);
  const size_t words = kBytes / sizeof *memory / (size_t)threads;
  double best = 1e30;
  uint64_t sum = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    pthread_t ids[kMaxThreads];
    Part parts[kMaxThreads];
    const double start = now();
    for (int t = 0; t < threads; ++t) {
      parts[t] = (Part){memory + (size_t)t * words, words, 0};
      if (pthread_create(&ids[t], NULL, read_part, &parts[t])) return 1;
    }
    for (int t = 0; t < threads; ++t) {
      pthread_join(ids[t], NULL);
      sum += parts[t].sum;
    }
    const double seconds = now() - start;
    if (seconds < best) best = seconds;
  }
  fprintf(stderr, "sum %llu\n", (unsigned long long)sum);  // keeps the reads from being optimised away
  printf("%.0f\n", (double)(words * sizeof *memory * (size_t)threads) / best);
  free(memory);
  return 0;
}
