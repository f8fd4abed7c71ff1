// Which task a report is about.
#pragma once

#include <keel/runtime/task_node.hpp>

#include <cstdint>
#include <string>

namespace keel {

// What handlers of failures are told: who failed, and who spawned it. A view: for the duration of the call.
//
// Threads: the scheduler of the task.
class task_description {
 public:
  explicit task_description(const task_node& node) noexcept : node_(&node), name_(node.name) {}
  // Something that is no task: a literal.
  explicit task_description(const char* name) noexcept : name_(name) {}

  // "unnamed" for a task without a name.
  const char* name() const noexcept { return name_ != nullptr ? name_ : "unnamed"; }
  // 0 for what is no task.
  std::uint64_t id() const noexcept { return node_ != nullptr ? node_->id : 0; }

  // "'reader' #7"
  std::string title() const;
  // "spawned by 'session' #3 < 'main' #1", or an empty text. Those who have ended are not known by name.
  std::string spawned_by() const;
  // The co_await at which it stands, or after which it ended by an exception or or_return, and its callers:
  // "net/tcp.cpp:88 in serve < app/main.cpp:10 in session"; empty where that is not known.
  std::string place() const;

 private:
  const task_node* node_ = nullptr;
  const char* name_;
};

}  // namespace keel
