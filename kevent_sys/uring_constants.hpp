// Private to kevent_sys: what newer kernels know and liburing 2.3 does not name.
#pragma once

namespace keel::kevent_sys {

inline constexpr unsigned feature_no_iowait = 1u << 17;  // Linux 6.15: IORING_FEAT_NO_IOWAIT
inline constexpr unsigned enter_no_iowait = 1u << 7;     // Linux 6.15: IORING_ENTER_NO_IOWAIT
inline constexpr long syscall_cachestat = 451;           // Linux 6.5

}  // namespace keel::kevent_sys
