#include <doctest/doctest.h>

#include <fcntl.h>
#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/seed.hpp"
#include "support/temporary_folder.hpp"

using namespace keel::test;

TEST_CASE("case 130: UNOTIFY is ready when READY says so") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(42)) == 0);
  CHECK(queue.silent(5));
  REQUIRE(queue.ready(unotify_event(42)) == 1);
  const ukevent got = queue.next();
  CHECK(got.id.raw_u64 == 42);
  CHECK(got.ret_flags == done);
}

TEST_CASE("case 131: UNOTIFY with ALWAYS_QUEUE is ready at once") {
  const event_queue queue;
  CHECK(queue.add(unotify_event(42, KEVENT_REQ_ALWAYS_QUEUE)) == 0);
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("spec 2.10: any non-zero mask and any 64-bit id will do") {
  const event_queue queue;
  for (const std::uint64_t id : {std::uint64_t(0), ~std::uint64_t(0), std::uint64_t(1) << 63}) {
    ukevent event = unotify_event(id, KEVENT_REQ_ET);
    event.event = 0x80000000u;
    REQUIRE(queue.add(event) == 0);
    for (int round = 0; round < 2; ++round) {
      REQUIRE(queue.ready(event) == 1);
      CHECK(queue.next().id.raw_u64 == id);
    }
  }
}

TEST_CASE("case 132: a completion never marks a user event") {
  const temporary_folder folder;
  const int file = ::open(folder.write("file", "text").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(file >= 0);
  const event_queue queue;
  for (std::uint64_t id = 0; id < 64; ++id) REQUIRE(queue.add(unotify_event(id)) == 0);
  char bytes[8] = {};
  REQUIRE(::kevent_aio_read(queue.fd(), file, bytes, sizeof bytes, 0, bytes) == 0);
  const ukevent got = queue.next();
  CHECK(got.type == KEVENT_AIO);
  CHECK(got.ptr == bytes);
  CHECK(queue.silent());
  ::close(file);
}

TEST_CASE(
    "K4: of all combinations of req_flags the known ones work, others are EINVAL, one entry at a time") {
  for (std::uint32_t flags = 0; flags < 64; ++flags) {
    CAPTURE(flags);
    const event_queue queue;
    std::vector<ukevent> events{unotify_event(1, flags), unotify_event(2, 0x80u | flags), unotify_event(3)};
    REQUIRE(queue.ctl(KEVENT_CTL_ADD, events) == 1);
    CHECK(events[0].id.raw_u64 == 2);
    CHECK(error_of(events[0]) == -EINVAL);

    const bool at_once = (flags & (KEVENT_REQ_ALWAYS_QUEUE | KEVENT_REQ_READY)) != 0;
    CHECK(queue.ready_now() == (at_once ? 1 : 0));
    const bool gone = at_once && (flags & KEVENT_REQ_ONESHOT) != 0;
    CHECK(queue.ready(unotify_event(1)) == (gone ? 0 : 1));
    CHECK(queue.ready_now() == (gone ? 0 : 1));
    CHECK(queue.ready(unotify_event(3)) == 1);
  }
  const event_queue queue;
  for (int bit = 6; bit < 32; ++bit) {
    const ukevent entry = queue.handed_back(unotify_event(1, std::uint32_t(1) << bit));
    CHECK(entry.ret_flags == done_and_broken);
    CHECK(error_of(entry) == -EINVAL);
  }
}

TEST_CASE("K4: unknown types and masks fail alone: their neighbours are processed") {
  const event_queue queue;
  std::vector<ukevent> events{event_of(99, 1, 1), unotify_event(1), event_of(KEVENT_UNOTIFY, 2, 0),
                              event_of(KEVENT_SOCKET, 0xFFFFFFFFu, 1), unotify_event(3)};
  REQUIRE(queue.ctl(KEVENT_CTL_ADD, events) == 3);
  CHECK(error_of(events[0]) == -ENOSYS);
  CHECK(error_of(events[1]) == -EINVAL);
  CHECK(error_of(events[2]) == -EBADF);
  std::vector<ukevent> good{unotify_event(1), unotify_event(3)};
  CHECK(queue.ctl(KEVENT_CTL_READY, good) == 2);
}

namespace {

// What a queue of user events must do, told by a map and a list.
class model {
 public:
  struct entry {
    std::uint32_t flags;
    std::uint32_t cookie;
  };

  // Returns the error, or 0.
  int add(std::uint64_t id, std::uint32_t flags, std::uint32_t cookie) {
    if (!entries_.try_emplace(id, entry{flags, cookie}).second) return -EEXIST;
    if ((flags & (KEVENT_REQ_ALWAYS_QUEUE | KEVENT_REQ_READY)) != 0) ready_.push_back(id);
    return 0;
  }
  bool remove(std::uint64_t id) {
    std::erase(ready_, id);
    return entries_.erase(id) == 1;
  }
  bool modify(std::uint64_t id, std::uint32_t flags) {
    const auto found = entries_.find(id);
    if (found == entries_.end()) return false;
    found->second.flags = flags;
    return true;
  }
  bool ready(std::uint64_t id) {
    if (!entries_.contains(id)) return false;
    if (std::find(ready_.begin(), ready_.end(), id) == ready_.end()) ready_.push_back(id);
    return true;
  }
  std::optional<std::pair<std::uint64_t, entry>> next() {
    if (ready_.empty()) return std::nullopt;
    const std::uint64_t id = ready_.front();
    ready_.erase(ready_.begin());
    const entry taken = entries_.at(id);
    if ((taken.flags & KEVENT_REQ_ONESHOT) != 0) entries_.erase(id);
    return std::pair(id, taken);
  }
  std::size_t size() const { return entries_.size(); }

 private:
  std::map<std::uint64_t, entry> entries_;
  std::vector<std::uint64_t> ready_;
};

void collect_and_compare(const event_queue& queue, model& expected, unsigned count) {
  for (const ukevent& got : queue.get(0, count, no_wait)) {
    const auto next = expected.next();
    REQUIRE(next.has_value());
    REQUIRE(got.id.raw_u64 == next->first);
    REQUIRE(got.user[0] == next->second.cookie);
    REQUIRE(got.ret_flags == done);
    --count;
  }
  if (count > 0) REQUIRE_FALSE(expected.next().has_value());
}

}  // namespace

TEST_CASE("K6: any sequence of ADD, MODIFY, REMOVE and READY agrees with the model") {
  const std::uint64_t seed = chosen_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const event_queue queue;
  model expected;
  // LAST_CHECK is always true for a user event; MODIFY does not look at READY and ALWAYS_QUEUE.
  constexpr std::uint32_t add_flags = 0x3f;
  constexpr std::uint32_t modify_flags = KEVENT_REQ_ONESHOT | KEVENT_REQ_WAKEUP_ALL | KEVENT_REQ_ET;
  for (std::uint32_t step = 0; step < 30'000; ++step) {
    CAPTURE(step);
    const std::uint64_t id = random() % 24;
    const auto flags = static_cast<std::uint32_t>(random());
    ukevent event = unotify_event(id);
    switch (random() % 5) {
      case 0: {
        event = with_cookie(unotify_event(id, flags & add_flags), step);
        const int error = expected.add(id, flags & add_flags, step);
        REQUIRE(::kevent_ctl(queue.fd(), KEVENT_CTL_ADD, 1, &event) == (error == 0 ? 0 : 1));
        if (error != 0) REQUIRE(error_of(event) == error);
        break;
      }
      case 1:
        if (expected.size() == 0) break;
        REQUIRE(queue.remove(event).ret_flags == (expected.remove(id) ? done : done_and_broken));
        break;
      case 2: {
        if (expected.size() == 0) break;
        const ukevent entry = queue.modify(unotify_event(id, flags & modify_flags));
        const bool found = expected.modify(id, flags & modify_flags);
        REQUIRE(entry.ret_flags == (found ? done : done_and_broken));
        break;
      }
      case 3:
        if (expected.size() == 0) break;
        REQUIRE(queue.ready(event) == (expected.ready(id) ? 1 : 0));
        break;
      default: collect_and_compare(queue, expected, static_cast<unsigned>(random() % 4));
    }
  }
}
