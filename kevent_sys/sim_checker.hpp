// What an engine owes its operations, watched from outside.
#pragma once

#include <keel/kevent_sys/operation.hpp>

#include <cstdint>
#include <string>

namespace keel::kevent_sys {

// Sees each submission, each answer and each close of one engine, and complains of what must not be:
// an answer for an operation that has had its last one; an operation whose work is done and whose answer does
// not come; a descriptor that is closed under an operation; success on a closed descriptor; at the end, an
// operation without its last answer.
//
// Thread safety: the engine's thread.
class sim_checker {
 public:
  // Throws std::bad_alloc.
  sim_checker();
  sim_checker(const sim_checker&) = delete;
  sim_checker& operator=(const sim_checker&) = delete;
  ~sim_checker();

  bool ok() const noexcept { return complaints_ == 0; }
  std::uint64_t complaints() const noexcept { return complaints_; }
  // A line for each complaint, of which the first 20 are kept.
  const std::string& report() const noexcept { return report_; }

  // Engines: `op` was submitted; what it asks for was done to its object; it is to be answered. The answer is
  // not to be published where answered() is false.
  void submitted(const operation& op, std::uint64_t now_ns);
  void executed(const operation& op, std::uint64_t now_ns);
  bool answered(const operation& op, answer a, std::uint64_t now_ns);
  // Engines: the descriptor was given up.
  void closed(int fd, std::uint64_t now_ns);

  // Complains of what was done more than `limit_ns` ago and not answered.
  void expect_answers(std::uint64_t now_ns, std::uint64_t limit_ns);
  // Complains of each operation that has not had its last answer. A wake operation may wait.
  void expect_end();
  void complain(const std::string& what);

 private:
  struct records;

  records* records_;
  std::uint64_t complaints_ = 0;
  std::string report_;
};

// "recv fd 7": for messages.
std::string sim_name(const request& asked);
const char* sim_name(opcode code) noexcept;

}  // namespace keel::kevent_sys
