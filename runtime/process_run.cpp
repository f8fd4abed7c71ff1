// process::run.

#include <keel/runtime/process.hpp>

#include <keel/runtime/task.hpp>
#include <keel/runtime/this_task.hpp>
#include <keel/runtime/when_all.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <sys/ioctl.h>
#include <unistd.h>
#include <vector>
#include <algorithm>
#include <csignal>

namespace keel {
namespace {

constexpr std::size_t read_bytes = 64 * 1024;

struct collected {
  pipe_reader* from;
  std::string bytes;
  bool ended = false;
};

}  // namespace

// One run: what is fed, what has come.
class process_session {
 public:
  process_session(process& child, const process_run_options& options) noexcept
      : child_(child), options_(options), input_(as_bytes(options.input)) {
    out_.from = &child.stdout_pipe();
    err_.from = options.err.what() == stdio::kind::pipe ? &child.stderr_pipe() : nullptr;
  }

  // Feeds, collects, and waits for the end.
  task<result<void>> exchange() {
    auto done = co_await when_all(feed(), collect(out_), collect(err_));
    const auto canceled = [](const result<void>& r) { return r.error() == errc::operation_canceled; };
    const bool stopped =
        canceled(std::get<0>(done)) || canceled(std::get<1>(done)) || canceled(std::get<2>(done));
    if (stopped && !too_much_) co_return failure(errc::operation_canceled, "run a process");
    const auto status = co_await child_.wait();
    if (!status) co_return status.why();
    co_return result<void>();
  }

  // Nobody answers any more for the child: what it has written is taken as it is.
  void take_the_rest() {
    take_what_is_there(out_);
    take_what_is_there(err_);
  }

  bool too_much() const noexcept { return too_much_; }
  void stop_feeding() noexcept {
    input_ = {};
    child_.in_ = pipe_writer();
  }
  process_output output(std::error_code cut_short) {
    process_output all;
    all.status = child_.status_;
    all.cut_short = cut_short;
    all.out = std::move(out_.bytes);
    all.err = std::move(err_.bytes);
    return all;
  }
  task<result<exit_status>> kill_and_wait() {
    static_cast<void>(child_.kill_group(SIGKILL));
    auto ended = co_await child_.wait_to_the_end();
    co_return ended;
  }

 private:
  task<result<void>> feed() {
    result<void> written;
    if (!child_.in_.is_open()) co_return written;
    if (!too_much_) written = co_await child_.in_.write_all(input_);
    // EPIPE: it does not want more.
    child_.in_ = pipe_writer();
    co_return written;
  }

  task<result<void>> collect(collected& into) {
    std::vector<std::byte> buffer(into.from != nullptr ? read_bytes : 0);
    while (into.from != nullptr && !into.ended && !too_much_) {
      const auto n = co_await into.from->read(buffer);
      if (!n) co_return n.why();
      into.ended = *n == 0;
      add(into, as_text(const_byte_span(buffer).first(*n)));
    }
    co_return result<void>();
  }

  void add(collected& into, std::string_view bytes) {
    const std::size_t room = options_.output_max - into.bytes.size();
    into.bytes += bytes.substr(0, room);
    if (bytes.size() <= room) return;
    too_much_ = true;
    static_cast<void>(child_.kill_group(SIGKILL));
    // Somebody who has left the group may keep these open.
    child_.in_.cancel();
    out_.from->cancel();
    if (err_.from != nullptr) err_.from->cancel();
  }

  void take_what_is_there(collected& from) {
    char buffer[4096];
    int there = 0;
    while (from.from != nullptr && !too_much_ && ::ioctl(from.from->fd(), FIONREAD, &there) == 0 &&
           there > 0) {
      const auto size = std::min(sizeof buffer, static_cast<std::size_t>(there));
      const ssize_t n = ::read(from.from->fd(), buffer, size);
      if (n <= 0) return;
      add(from, std::string_view(buffer, static_cast<std::size_t>(n)));
    }
  }

  process& child_;
  const process_run_options& options_;
  const_byte_span input_;
  collected out_{};
  collected err_{};
  bool too_much_ = false;
};

task<result<process_output>> process::run(command what, process_run_options options) {
  const stop_context* context = co_await this_task::current_stop_context();
  if (context->stopped()) co_return failure(errc::operation_canceled, "run a process");
  auto spawned = spawn(what, {.in = options.input.empty() ? stdio::null() : stdio::pipe(),
                              .out = stdio::pipe(),
                              .err = options.err});
  if (!spawned) co_return spawned.why();
  process child = *std::move(spawned);
  process_session session(child, options);

  auto ended = co_await with_timeout(options.timeout, session.exchange());
  std::error_code cut_short;
  if (!ended && ended.error() == errc::timed_out) {
    cut_short = errc::timed_out;
    session.stop_feeding();
    static_cast<void>(child.terminate_group());
    ended = co_await with_timeout(options.grace, session.exchange());
  }
  if (!ended) {
    const auto killed = co_await session.kill_and_wait();
    if (!killed) co_return killed.why();
    if (ended.error() != errc::timed_out) co_return ended.why();
    session.take_the_rest();
  }
  if (session.too_much()) cut_short = std::make_error_code(std::errc::no_buffer_space);
  co_return session.output(cut_short);
}

}  // namespace keel
