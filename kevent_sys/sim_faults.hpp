// Seeded faults for the simulation: what goes wrong, how often, and with which errors.
#pragma once

#include <keel/base/bytes.hpp>
#include <keel/kevent_sys/operation.hpp>

#include <cstdint>

namespace keel::kevent_sys {

// Numbers that a seed determines, the same with every compiler (splitmix64). A value.
class sim_random {
 public:
  explicit constexpr sim_random(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t next() noexcept;
  // 0 to bound - 1. REQUIRES: bound > 0
  std::uint64_t below(std::uint64_t bound) noexcept;
  // True `per_mille` times of 1,000. A chance of 0 takes no number.
  bool hit(std::uint32_t per_mille) noexcept;

 private:
  std::uint64_t state_;
};

// How often, of 1,000, what a kernel may do is done to the operations on simulated objects. Operations with a
// scripted outcome are left alone. A value.
struct sim_faults {
  std::uint16_t errors = 0;          // an error of the opcode's table; a fatal one resets its connection
  std::uint16_t short_counts = 0;    // a transfer moves 1, half, or all but 1 of its bytes
  std::uint16_t delays = 0;          // the kernel begins late
  std::uint16_t late_answers = 0;    // the answer comes late, after those of others
  std::uint16_t dropped_more = 0;    // a multishot ends with an answer after which it could have gone on
  std::uint16_t starvations = 0;     // a receive finds no buffer, and is parked for a while
  std::uint16_t refusals = 0;        // the kernel takes fewer submissions than there are
  std::uint16_t cancel_races = 0;    // a cancel loses against its operation, or takes its time
  std::uint16_t spurious_wakes = 0;  // the wake operation answers although nobody called wake()
  std::uint16_t hangs = 0;           // ends only when cancelled, or when the faults have stopped
  bool one_byte = false;             // every transfer of a stream or file is of one byte
  std::uint64_t delay_max_ns = 2'000'000;  // of delays, starvations and late cancels
  std::uint64_t window_max_ns = 500'000;   // of late answers: within it they are out of order

  static constexpr sim_faults calm() noexcept { return {}; }
  static constexpr sim_faults short1() noexcept { return {.one_byte = true}; }
  static constexpr sim_faults reorder() noexcept { return {.delays = 300, .late_answers = 500}; }
  static constexpr sim_faults with_errors() noexcept { return {.errors = 10}; }
  static constexpr sim_faults chaos() noexcept {
    return {.errors = 200,
            .short_counts = 200,
            .delays = 200,
            .late_answers = 200,
            .dropped_more = 200,
            .starvations = 200,
            .refusals = 200,
            .cancel_races = 200,
            .spurious_wakes = 200};
  }
  static constexpr sim_faults never_completes() noexcept { return {.hangs = 200}; }
};

// The errors that Linux gives to operations of this kind on a good descriptor: positive numbers.
std::span<const int> sim_errors(opcode code) noexcept;
// Whether a connection is gone after this error: the operations after it will not succeed.
bool sim_error_is_fatal(int error) noexcept;

}  // namespace keel::kevent_sys
