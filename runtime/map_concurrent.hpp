// A function over a range, several elements at a time, and all of the results.
#pragma once

#include <keel/runtime/closures.hpp>
#include <keel/runtime/spawned.hpp>

#include <exception>
#include <iterator>
#include <optional>
#include <vector>

namespace keel {

struct map_options {
  std::size_t limit = 32;  // how many run at a time
};

namespace detail {

class map_join;

// One of the `limit` that run at a time: takes an element, awaits its task, takes the next.
class map_worker : public recycled, public waiter, public runnable {
 public:
  explicit map_worker(map_join& join) noexcept : waiter(&ended), runnable(&begin), join_(join) {}
  virtual ~map_worker() = default;

 protected:
  // Takes an element and starts its task; null when that failed. REQUIRES: there is one
  virtual std::coroutine_handle<> take_next(waiter& up, stop_context& context) noexcept = 0;
  // Its task has ended.
  virtual void collect() noexcept = 0;

 private:
  friend class map_join;
  static void begin(runnable& self) noexcept;
  static std::coroutine_handle<> ended(waiter* self) noexcept;

  map_join& join_;
  task_node node_;
  map_worker* next_ = nullptr;
};

// What does not depend on the types: the workers, and when it is over.
class map_join {
 public:
  map_join(const map_join&) = delete;
  map_join& operator=(const map_join&) = delete;

 protected:
  explicit map_join(std::size_t limit) noexcept : limit_(limit) {}
  virtual ~map_join();
  // Whether no element is to be taken any more.
  virtual bool exhausted() noexcept = 0;
  virtual map_worker* make_worker() = 0;

  bool begun() const noexcept { return up_ != nullptr; }
  std::coroutine_handle<> begin(waiter& up, stop_context& outer) noexcept;
  stop_context& context() noexcept { return context_; }
  // The first failure counts; what runs is stopped.
  void fail(std::exception_ptr error) noexcept;
  void note_failure() noexcept;
  bool failed() const noexcept { return failed_; }

  const std::size_t limit_;
  std::exception_ptr error_;

 private:
  friend class map_worker;
  void add_worker() noexcept;
  std::coroutine_handle<> advance(map_worker& worker) noexcept;
  std::coroutine_handle<> worker_ended(map_worker& worker) noexcept;

  stop_context context_;
  map_worker* workers_ = nullptr;
  std::size_t running_ = 0;
  waiter* up_ = nullptr;
  bool failed_ = false;
};

// What co_await gives: vector<T> for task<T>, result<vector<T>> for task<result<T>>, no vector for void.
template <class T>
struct map_answer {
  using element = T;
  using type = std::conditional_t<std::is_void_v<T>, void, std::vector<value_or_monostate<T>>>;
};
template <class T>
struct map_answer<result<T>> {
  using element = T;
  using type = result<typename map_answer<T>::type>;
};

}  // namespace detail

// What map_concurrent returns. `Range` is a reference when the range is somebody else's.
template <class Range, class Fn>
class map_op final : private detail::map_join {
  static constexpr bool owned = !std::is_lvalue_reference_v<Range>;
  using iterator = decltype(std::begin(std::declval<std::remove_reference_t<Range>&>()));
  using reference = std::iter_reference_t<iterator>;
  // Elements of a range that was given away are given away.
  using given = std::conditional_t<owned && std::is_invocable_v<Fn&, std::iter_rvalue_reference_t<iterator>>,
                                   std::iter_rvalue_reference_t<iterator>, reference>;
  using returned = std::invoke_result_t<Fn&, given>;
  static_assert(is_task<returned>, "map_concurrent takes a function that returns task<T>");
  using value = typename detail::task_value<returned>::type;
  using element = typename detail::map_answer<value>::element;
  static constexpr bool gives_values = !std::is_void_v<element>;

 public:
  using answer = typename detail::map_answer<value>::type;

  map_op(Range&& range, Fn fn, std::size_t limit)
      : map_join(limit), range_(std::forward<Range>(range)), fn_(std::move(fn)) {}
  map_op(map_op&& other) noexcept
      : map_join(other.limit_), range_(std::forward<Range>(other.range_)), fn_(std::move(other.fn_)) {
    KEEL_ASSERT(!other.begun(), "map_concurrent was moved while it runs");
  }

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    KEEL_ASSERT(!begun(), "map_concurrent is awaited once");
    try {
      at_.emplace(std::begin(range_));
    } catch (...) {
      fail(std::current_exception());
    }
    return begin(up, context);
  }

  // Throws the first exception, of `fn`, its tasks or the range.
  answer take() {
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    if constexpr (is_result<value>) {
      if (why_) return *why_;
    }
    if constexpr (gives_values) {
      std::vector<element> all;
      all.reserve(values_.size());
      for (auto& one : values_) all.push_back(*std::move(one));
      return all;
    } else if constexpr (is_result<value>) {
      return {};
    }
  }

 private:
  class worker final : public detail::map_worker {
   public:
    explicit worker(map_op& of) noexcept : map_worker(of), of_(of) {}

   private:
    std::coroutine_handle<> take_next(waiter& up, stop_context& context) noexcept override {
      try {
        index_ = of_.count_++;
        if constexpr (gives_values) of_.values_.emplace_back();
        task_.emplace(of_.fn_(static_cast<given>(**of_.at_)));
        ++*of_.at_;
      } catch (...) {
        of_.fail(std::current_exception());
        return nullptr;
      }
      return task_->start(up, context);
    }
    void collect() noexcept override {
      try {
        of_.store(index_, *task_);
      } catch (...) {
        of_.fail(std::current_exception());
      }
      task_.reset();
    }

    map_op& of_;
    std::size_t index_ = 0;
    std::optional<returned> task_;
  };

  void store(std::size_t index, returned& ended) {
    if constexpr (std::is_void_v<value>) {
      ended.take();
    } else if constexpr (is_result<value>) {
      auto got = ended.take();
      if (!got) {
        if (!why_) why_.emplace(got.why());
        note_failure();
      } else if constexpr (gives_values) {
        values_[index].emplace(*std::move(got));
      }
    } else {
      values_[index].emplace(ended.take());
    }
  }

  // What gives results needs no more of them once it is stopped; of what gives values there is one for each
  // element.
  bool exhausted() noexcept override {
    if (failed() || *at_ == std::end(range_)) return true;
    if constexpr (is_result<value>) {
      if (context().stopped()) {
        why_.emplace(failure(errc::operation_canceled, "map_concurrent"));
        note_failure();
        return true;
      }
    }
    return false;
  }
  detail::map_worker* make_worker() override { return new worker(*this); }

  Range range_;
  Fn fn_;
  std::optional<iterator> at_;
  std::vector<std::optional<value_or_monostate<element>>> values_;
  std::optional<failure> why_;
  std::size_t count_ = 0;
};

// Runs `fn(element)`, which returns a task, for every element, `limit` of them at a time, in their order; and
// gives what they give in that order: vector<T> for task<T>, result<vector<T>> for task<result<T>>, void and
// result<void> for tasks without a value. What waits for its turn is an element, not a task: memory is that
// of `limit` tasks and of the results.
//
//     auto pages = co_await map_concurrent(urls, fetch, {.limit = 32});
//
// The first failure, an exception or an error result, stops the tasks that run and keeps the others from
// beginning; when all have ended it is thrown, or is the result. Elements of a range that is given away
// (std::move(urls)) are passed as rvalues where `fn` takes those. A range that is not is referred to.
//
// Errors:    the first one of `fn`; operation_canceled.
// Cancelled: the stop is passed on to what runs, whose end is awaited. With task<result<T>> no other begins;
//            else all do, because each element has its value, and find themselves stopped.
// Lifetime:  a range that is referred to, and what is in it, must live until the co_await returns.
// REQUIRES:  limit > 0
template <class Range, class Fn>
[[nodiscard]] map_op<Range, std::decay_t<Fn>> map_concurrent(Range&& range, Fn&& fn,
                                                             map_options options = map_options()) {
  KEEL_CHECK_CLOSURE(Fn);
  KEEL_ASSERT(options.limit > 0, "map_concurrent with a limit of 0 would never begin");
  return {std::forward<Range>(range), std::forward<Fn>(fn), options.limit};
}

}  // namespace keel
