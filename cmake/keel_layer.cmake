# Layers, their include roots, and the programs around them.

# Adds a folder of this repository, if it is there: a source archive may lack bench/, for example.
function(keel_add_folder name)
  if(EXISTS ${PROJECT_SOURCE_DIR}/${name}/CMakeLists.txt)
    add_subdirectory(${PROJECT_SOURCE_DIR}/${name})
  endif()
endfunction()

# Makes an include root in the build tree that holds one link, so that <keel/net/tcp.hpp> finds
# net/tcp.hpp, and only for a target that links the layer `net`.
function(keel_make_include_root name link)
  set(root ${PROJECT_BINARY_DIR}/include_roots/${name})
  cmake_path(GET link PARENT_PATH parent)
  file(MAKE_DIRECTORY ${root}/${parent})
  file(CREATE_LINK ${PROJECT_SOURCE_DIR}/${name} ${root}/${link} SYMBOLIC)
  set(root ${root} PARENT_SCOPE)
endfunction()

# keel_add_layer(net SOURCES tcp.cpp HEADERS tcp.hpp LINKS keel::runtime)
#
# SOURCES also lists headers that only this layer includes. HEADERS are public and get installed.
# PRIVATE_LINKS are used by the sources alone.
function(keel_add_layer name)
  cmake_parse_arguments(arg "" "" "SOURCES;HEADERS;LINKS;PRIVATE_LINKS" ${ARGN})
  keel_make_include_root(${name} keel/${name})
  add_library(keel_${name})
  add_library(keel::${name} ALIAS keel_${name})
  target_sources(keel_${name} PRIVATE ${arg_SOURCES})
  list(TRANSFORM arg_HEADERS PREPEND ${root}/keel/${name}/ OUTPUT_VARIABLE headers)
  target_sources(keel_${name} PUBLIC FILE_SET HEADERS BASE_DIRS ${root} FILES ${headers})
  target_compile_features(keel_${name} PUBLIC cxx_std_20)
  target_link_libraries(keel_${name}
    PUBLIC ${arg_LINKS}
    PRIVATE $<BUILD_INTERFACE:keel_warnings> ${arg_PRIVATE_LINKS})
  set_target_properties(keel_${name} PROPERTIES EXPORT_NAME ${name} VERIFY_INTERFACE_HEADER_SETS ON)
  set_property(GLOBAL APPEND PROPERTY KEEL_LAYERS ${name})
  if(KEEL_INSTALL)
    install(TARGETS keel_${name} EXPORT keel_targets FILE_SET HEADERS)
  endif()
endfunction()

# keel_add_umbrella(HEADERS keel.hpp): keel::keel, which is every layer and <keel/keel.hpp>.
function(keel_add_umbrella)
  cmake_parse_arguments(arg "" "" "HEADERS" ${ARGN})
  get_property(layers GLOBAL PROPERTY KEEL_LAYERS)
  keel_make_include_root(umbrella keel)
  add_library(keel INTERFACE)
  add_library(keel::keel ALIAS keel)
  list(TRANSFORM arg_HEADERS PREPEND ${root}/keel/ OUTPUT_VARIABLE headers)
  target_sources(keel INTERFACE FILE_SET HEADERS BASE_DIRS ${root} FILES ${headers})
  list(TRANSFORM layers PREPEND keel:: OUTPUT_VARIABLE targets)
  target_link_libraries(keel INTERFACE ${targets})
  set_target_properties(keel PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
  if(KEEL_INSTALL)
    install(TARGETS keel EXPORT keel_targets FILE_SET HEADERS)
  endif()
endfunction()

# keel_add_example(echo_server SOURCES echo_server.cpp [LINKS ...]): <build folder>/examples/echo_server.
#
# The target has a longer name, so that an example may be called like a layer.
function(keel_add_example name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(keel_example_${name} ${arg_SOURCES})
  target_link_libraries(keel_example_${name} PRIVATE keel::keel keel_warnings ${arg_LINKS})
  set_target_properties(keel_example_${name} PROPERTIES
    OUTPUT_NAME ${name}
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/examples)
endfunction()
