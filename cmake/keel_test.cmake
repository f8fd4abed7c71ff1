# keel_add_tests(net tcp_stream_test.cpp ... [LINKS keel::fs] [TIMEOUT_S 60] [ON_EPOLL])
#
# Makes <build folder>/tests/keel_test_net, a doctest program for the layer `net`. A set of tests
# that is not named after a layer says with LINKS what it needs. A program that ends with 77 could
# not run here, and ctest shows it as skipped. With ON_EPOLL it runs once more, as net_epoll, where queues
# run on epoll.
function(keel_add_tests name)
  cmake_parse_arguments(arg "ON_EPOLL" "TIMEOUT_S" "LINKS" ${ARGN})
  if(NOT arg_TIMEOUT_S)
    set(arg_TIMEOUT_S 180)
  endif()
  if(TARGET keel_${name})
    list(APPEND arg_LINKS keel::${name})
  endif()
  set(target keel_test_${name})
  add_executable(${target} ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${target} PRIVATE keel_test_support keel_warnings ${arg_LINKS})
  target_precompile_headers(${target} REUSE_FROM keel_test_support)
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${target})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT_S} SKIP_RETURN_CODE 77)
  if(arg_ON_EPOLL)
    add_test(NAME ${name}_epoll COMMAND ${target})
    set_tests_properties(${name}_epoll PROPERTIES
      TIMEOUT ${arg_TIMEOUT_S} SKIP_RETURN_CODE 77 ENVIRONMENT KEEL_ENGINE=epoll)
  endif()
endfunction()
