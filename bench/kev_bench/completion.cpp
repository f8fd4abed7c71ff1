// kevent, completions: one multishot operation per handle on a private queue; the byte comes with the event.

#include "collector.hpp"

#include <keel/kevent_sys/queue.hpp>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <vector>

namespace kev_bench {
namespace {

namespace kevent_sys = keel::kevent_sys;

class completion_collector;

struct receiver : kevent_sys::operation {
  receiver(const kevent_sys::request& what, completion_collector& collects, std::uint32_t handle) noexcept
      : operation(what, &completed), owner(&collects), index(handle) {}

  static void completed(operation& self, kevent_sys::answer a) noexcept;

  completion_collector* owner;
  std::uint32_t index;
};

class completion_collector : public collector {
 public:
  using collector::collector;

  void begin() override {
    queue_.emplace(kevent_sys::queue_options{});
    receivers_.reserve(handles_.size());
    for (std::uint32_t i = 0; i < handles_.size(); ++i) {
      kevent_sys::request what;
      what.code = handles_.sockets() ? kevent_sys::opcode::receive : kevent_sys::opcode::drain;
      what.multishot = true;
      what.fd = handles_.read_fd(i);
      queue_->submit(receivers_.emplace_back(what, *this, i));
    }
  }

  void collect() override {
    queue_->wait(kevent_sys::never);
    queue_->consume();
  }

  void end() override {
    ending_ = true;
    for (receiver& r : receivers_) queue_->cancel(r);
    while (!queue_->idle()) collect();
  }

  std::int64_t system_calls() const override { return static_cast<std::int64_t>(queue_->counters().enters); }
  const char* engine() const override { return queue_->info().name; }

  void completed(receiver& r, kevent_sys::answer a) noexcept {
    if (a.has_buffer()) {
      queue_->buffers().give_back(a.buffer());
      handles_.took(r.index);
    } else if (!ending_) {
      std::fprintf(stderr, "kev_bench: handle %u answers %d\n", r.index, a.value);
      std::exit(1);
    }
    if (!a.more() && !ending_) queue_->submit(r);
  }

 private:
  std::optional<kevent_sys::queue> queue_;
  std::vector<receiver> receivers_;
  bool ending_ = false;
};

void receiver::completed(operation& self, kevent_sys::answer a) noexcept {
  auto& r = static_cast<receiver&>(self);
  r.owner->completed(r, a);
}

}  // namespace

std::unique_ptr<collector> make_kevent_completion(field& handles) {
  return std::make_unique<completion_collector>(handles);
}

}  // namespace kev_bench
