// More programs as a user writes them: fan-out, periods, blocking code, other CPUs and loops, stackful code.

#include <keel/keel.hpp>

#include <algorithm>
#include <array>
#include <numeric>
#include <poll.h>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace keel;
using namespace std::chrono_literals;

TEST_CASE("map_concurrent: many pages, a few at a time, in order") {
  auto main = []() -> task<> {
    const std::vector<std::string> urls{"one", "two", "three", "four"};
    auto fetch = [](const std::string& url) -> task<std::size_t> {
      (void)co_await sleep_for(1ms);
      co_return url.size();
    };

    auto pages = co_await map_concurrent(urls, fetch, {.limit = 2});

    CHECK(pages == std::vector<std::size_t>{3, 3, 5, 4});
  };
  run(main());
}

TEST_CASE("token_bucket: what is taken beyond the burst comes at the rate") {
  auto main = []() -> task<> {
    token_bucket bucket({.rate = 1'000'000, .burst = 64'000});
    const time_point begin = scheduler::current()->now();
    for (int i = 0; i < 3; ++i)
      if (!co_await bucket.take(32'000)) co_return;
    CHECK(scheduler::current()->now() - begin >= 30ms);
  };
  run(main());
}

TEST_CASE("interval: a periodic job ends when its task is stopped") {
  int jobs = 0;
  auto periodic = [&]() -> task<> {
    interval tick{1ms, missed_tick::skip};
    while (co_await tick.next()) ++jobs;
  };
  auto main = [&]() -> task<> {
    auto job = spawn(periodic);
    while (jobs < 3) (void)co_await sleep_for(1ms);
    job.request_stop();
    co_await std::move(job);
  };
  run(main());
  CHECK(jobs >= 3);
}

TEST_CASE("blocking code runs beside the scheduler, and a task may go to another CPU") {
  runtime_options options;
  options.cpus = 2;
  runtime rt(options);
  rt.spawn([]() -> task<> {
    const std::string password = "secret";

    auto hash = co_await blocking([&] { return std::hash<std::string>()(password); });

    CHECK(hash == std::hash<std::string>()(password));
    scheduler& other_scheduler = scheduler::current()->owner().at(1);
    co_await resume_on(other_scheduler);
    CHECK(scheduler::current() == &other_scheduler);
  });
  rt.run();
}

TEST_CASE("keel inside a loop that is not ours") {
  bool done = false;
  runtime rt;
  auto later = [&]() -> task<> {
    (void)co_await sleep_for(2ms);
    done = true;
  };
  rt.spawn(later);
  pollfd watched{rt.fd(), POLLIN, 0};
  while (!done) {
    REQUIRE(::poll(&watched, 1, 10'000) == 1);
    rt.run_ready();
  }
}

TEST_CASE("stackful code on the same scheduler") {
  auto main = []() -> task<> {
    auto listener = net::tcp_listener::listen("127.0.0.1:0").value();
    auto client = (co_await net::tcp_stream::connect(listener.local())).value();
    auto peer = (co_await listener.accept()).value();
    (void)co_await client.send_all(as_bytes("page"));
    CHECK(client.shutdown_send());
    // It knows nothing of coroutines.
    auto legacy_parser = [](auto&& read) {
      std::string all;
      std::array<char, 3> part{};
      while (const std::size_t n = read(part.data(), part.size())) all.append(part.data(), n);
      return all;
    };

    auto page = co_await fiber([&] {
      return legacy_parser([&](char* p, std::size_t n) {
        return await(peer.recv(std::as_writable_bytes(std::span(p, n)))).value();
      });
    });

    CHECK(page == "page");
  };
  run(main());
}

TEST_CASE("channel: a producer and a consumer") {
  auto main = []() -> task<> {
    channel<int> numbers(2);
    auto produce = [&]() -> task<> {
      for (int i = 0; i < 5; ++i)
        if (!co_await numbers.send(i)) co_return;
      numbers.close();
    };
    auto producer = spawn(produce);
    int sum = 0;
    while (auto got = co_await numbers.receive()) sum += *got;
    co_await std::move(producer);
    CHECK(sum == 10);
  };
  run(main());
}
