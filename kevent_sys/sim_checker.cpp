#include <keel/kevent_sys/sim_checker.hpp>

#include <cerrno>
#include <iterator>
#include <map>
#include <unordered_map>

namespace keel::kevent_sys {
namespace {

constexpr const char* names[] = {"nop",  "wake",    "timer", "poll", "accept",   "connect",
                                 "recv", "receive", "drain", "send", "sendfile", "open",
                                 "read", "write",   "close", "call", "futex"};
static_assert(std::size(names) == static_cast<std::size_t>(opcode::futex) + 1);

constexpr std::uint64_t complaints_kept = 20;
constexpr std::uint64_t not_yet = ~std::uint64_t{0};

struct record {
  request asked;
  std::uint64_t order = 0;
  std::uint64_t submitted_ns = 0;
  std::uint64_t executed_ns = not_yet;  // the oldest work without an answer
  bool closed_under = false;
};

std::string at(std::uint64_t ns) {
  return " at " + std::to_string(ns) + " ns";
}

}  // namespace

struct sim_checker::records {
  std::unordered_map<const operation*, record> open;
  std::uint64_t submissions = 0;

  // By age, so that a report reads the same each time.
  std::map<std::uint64_t, const record*> by_age() const {
    std::map<std::uint64_t, const record*> sorted;
    for (const auto& [op, r] : open) sorted.emplace(r.order, &r);
    return sorted;
  }
};

const char* sim_name(opcode code) noexcept {
  return names[static_cast<std::size_t>(code)];
}

std::string sim_name(const request& asked) {
  return std::string(sim_name(asked.code)) + " fd " + std::to_string(asked.fd);
}

sim_checker::sim_checker() : records_(new records) {}

sim_checker::~sim_checker() {
  delete records_;
}

void sim_checker::complain(const std::string& what) {
  if (++complaints_ <= complaints_kept) report_ += what + "\n";
}

void sim_checker::submitted(const operation& op, std::uint64_t now_ns) {
  const auto [place, is_new] = records_->open.try_emplace(&op);
  if (!is_new) complain(sim_name(op.asked) + " was submitted while it is in flight," + at(now_ns));
  place->second = {.asked = op.asked, .order = ++records_->submissions, .submitted_ns = now_ns};
}

void sim_checker::executed(const operation& op, std::uint64_t now_ns) {
  const auto found = records_->open.find(&op);
  if (found != records_->open.end() && found->second.executed_ns == not_yet)
    found->second.executed_ns = now_ns;
}

bool sim_checker::answered(const operation& op, answer a, std::uint64_t now_ns) {
  const auto found = records_->open.find(&op);
  if (found == records_->open.end()) {
    complain(sim_name(op.asked) + " was answered again, with " + std::to_string(a.value) + at(now_ns) +
             ", after its last answer");
    return false;
  }
  record& r = found->second;
  if (r.closed_under && a.value >= 0)
    complain(sim_name(op.asked) + " answered " + std::to_string(a.value) + at(now_ns) +
             ", after its descriptor was closed");
  r.executed_ns = not_yet;
  if (!a.more()) records_->open.erase(found);
  return true;
}

void sim_checker::closed(int fd, std::uint64_t now_ns) {
  for (const auto& [order, seen] : records_->by_age()) {
    if (seen->asked.fd != fd || seen->asked.code == opcode::close) continue;
    complain("fd " + std::to_string(fd) + " was closed under " + sim_name(seen->asked.code) + at(now_ns));
  }
  for (auto& [op, r] : records_->open) {
    if (r.asked.fd == fd && r.asked.code != opcode::close) r.closed_under = true;
  }
}

void sim_checker::expect_answers(std::uint64_t now_ns, std::uint64_t limit_ns) {
  for (const auto& [order, r] : records_->by_age()) {
    if (r->executed_ns == not_yet || now_ns - r->executed_ns <= limit_ns) continue;
    complain(sim_name(r->asked) + " was done" + at(r->executed_ns) + " and is not answered" + at(now_ns));
  }
}

void sim_checker::expect_end() {
  for (const auto& [order, r] : records_->by_age()) {
    if (r->asked.code == opcode::wake) continue;
    complain(sim_name(r->asked) + ", submitted" + at(r->submitted_ns) + ", has had no last answer");
  }
}

}  // namespace keel::kevent_sys
