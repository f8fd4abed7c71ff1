// Every number of httpd in one place: what a client may ask for, and how long it may take.
#pragma once

#include <keel/base/chrono.hpp>

#include <cstddef>
#include <cstdint>

namespace httpd {

// What a request may be. A longer target is a 414, a longer head a 431, a longer body a 413.
inline constexpr std::size_t target_bytes_max = 8000;
inline constexpr std::size_t head_bytes_max = 16 * 1024;
inline constexpr std::size_t body_bytes_max = 64 * 1024;

// Files up to this size are read, cached, and sent together with their head; others go by sendfile.
inline constexpr std::size_t small_file_bytes_max = 16 * 1024;
inline constexpr std::size_t cache_bytes_max = 16 * 1024 * 1024;

// Answers to pipelined requests gather here before they are sent. Has room for a few small files.
inline constexpr std::size_t output_bytes = 48 * 1024;

// A directory with more entries is listed up to here.
inline constexpr std::size_t listed_entries_max = 20'000;

// A whole request must arrive within the first, and a connection may be silent between two requests for
// the second.
inline constexpr keel::seconds request_timeout{10};
inline constexpr keel::seconds idle_timeout{30};

// A receiver must take each slice of an answer within this time: that is "no stalled receivers" and a minimum
// rate in one rule, and it costs one timer per slice. Slices grow for quick receivers, because a large one
// costs less, and shrink for slow ones, down to some 2 KiB/s.
inline constexpr keel::seconds send_timeout{30};
inline constexpr keel::seconds slow_slice{1};
inline constexpr std::uint64_t slice_bytes_min = 64 * 1024;
inline constexpr std::uint64_t slice_bytes_first = 256 * 1024;
inline constexpr std::uint64_t slice_bytes_max = 1024 * 1024;

// How long we go on reading from a client that we have turned away, so that it can read why.
inline constexpr keel::seconds linger_timeout{2};

// After SIGINT or SIGTERM, the time for requests in flight.
inline constexpr keel::seconds stop_grace{10};

// A connection needs its socket and the file that it sends.
inline constexpr unsigned descriptors_per_connection = 2;
// For the runtime: rings, listeners, the served folder, standard streams, a directory being listed.
inline constexpr unsigned spare_descriptors = 24;

}  // namespace httpd
