# The few functions from which every folder's CMakeLists.txt is made.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug or RelWithDebInfo" FORCE)
endif()
find_program(TOROID_CCACHE ccache)
if(TOROID_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${TOROID_CCACHE})
endif()

find_package(Threads REQUIRED)
# Clang 14 needs libomp-14-dev beside it; GCC brings its own runtime.
find_package(OpenMP REQUIRED COMPONENTS CXX)

add_library(toroid_options INTERFACE)
target_include_directories(toroid_options INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/protos)
target_compile_options(toroid_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wno-psabi)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  # GCC 12 sees an overlap in `"text" + std::string` that is not there (GCC bug 105651).
  target_compile_options(toroid_options INTERFACE -Wno-restrict)
endif()
if(TOROID_WERROR)
  target_compile_options(toroid_options INTERFACE -Werror)
endif()
if(TOROID_SANITIZE)
  # A finding ends the program, so that a test cannot pass over it.
  target_compile_options(toroid_options INTERFACE -fsanitize=${TOROID_SANITIZE} -fno-sanitize-recover=all
                                                  -fno-omit-frame-pointer)
  target_link_options(toroid_options INTERFACE -fsanitize=${TOROID_SANITIZE})
endif()

if(TOROID_FUZZ)
  # Coverage of the libraries under test, not only of the fuzz target's own file.
  target_compile_options(toroid_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# With TOROID_UNITY eight sources of a target are compiled as one, so that the headers they share are read once. Names in
# unnamed namespaces then meet those of their neighbours, and what is of such a type seems to GCC to be of a header's.
function(toroid_unity name)
  if(TOROID_UNITY)
    set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
    if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
      target_compile_options(${name} PRIVATE -Wno-subobject-linkage)
    endif()
  endif()
endfunction()

# toroid_library(NAME SOURCES ... PUBLIC libs... PRIVATE libs...)
function(toroid_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC toroid_options ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  toroid_unity(${name})
endfunction()

# toroid_quick_to_build(NAME [HEADERS headers... | HEADERS_OF target]): for what is never hot. It is optimised less, and the
# headers that most of its files' compile time goes into are compiled once, for it or with another such target. (A compiler
# cache does without them and could not cache them; compilers other than GCC want every flag of two targets to be the same.)
function(toroid_quick_to_build name)
  cmake_parse_arguments(ARG "" "HEADERS_OF" "HEADERS" ${ARGN})
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  if(CMAKE_CXX_COMPILER_LAUNCHER OR NOT CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    return()
  endif()
  if(ARG_HEADERS_OF)
    target_precompile_headers(${name} REUSE_FROM ${ARG_HEADERS_OF})
  elseif(ARG_HEADERS)
    target_precompile_headers(${name} PRIVATE ${ARG_HEADERS})
  endif()
endfunction()

# toroid_proto_library(NAME PROTOS ... PUBLIC libs...): messages, included as "folder/name.pb.h".
#
# libsentencepiece.so carries protobuf-lite 3.14 and exports it; libprotobuf.so of Debian 12 is 3.21. In one program the
# first of the two would serve both, and the other ends the process. So ours is linked statically and nothing of it,
# nor any inline function or template made from its headers, is visible outside the program.
set(Protobuf_USE_STATIC_LIBS ON)
find_package(Protobuf REQUIRED)
target_compile_options(toroid_options INTERFACE -fvisibility=hidden -fvisibility-inlines-hidden)
target_link_options(toroid_options INTERFACE -Wl,--exclude-libs,libprotobuf.a)
function(toroid_proto_library name)
  cmake_parse_arguments(ARG "" "" "PROTOS;PUBLIC" ${ARGN})
  set(generated)
  foreach(proto IN LISTS ARG_PROTOS)
    file(RELATIVE_PATH relative ${CMAKE_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${proto})
    string(REGEX REPLACE "\\.proto$" "" stem ${relative})
    set(out ${CMAKE_BINARY_DIR}/protos/${stem})
    add_custom_command(
      OUTPUT ${out}.pb.cc ${out}.pb.h
      COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/protos
      COMMAND protobuf::protoc --cpp_out=${CMAKE_BINARY_DIR}/protos -I ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/${relative}
      DEPENDS ${CMAKE_SOURCE_DIR}/${relative}
      VERBATIM)
    list(APPEND generated ${out}.pb.cc)
  endforeach()
  add_library(${name} STATIC ${generated})
  target_compile_options(${name} PRIVATE -fvisibility=hidden -fvisibility-inlines-hidden $<$<CONFIG:Release>:-O1>)
  target_include_directories(${name} SYSTEM PUBLIC ${CMAKE_BINARY_DIR}/protos)
  target_link_libraries(${name} PUBLIC protobuf::libprotobuf ${ARG_PUBLIC} PRIVATE Threads::Threads)
  if(TOROID_SANITIZE)
    # Instrumented like its users: a container that one side marks and the other does not is a false finding.
    target_compile_options(${name} PRIVATE -fsanitize=${TOROID_SANITIZE} -fno-sanitize-recover=all)
  endif()
endfunction()

# toroid_test(NAME SOURCES ... LIBS ... [LABELS ...] [TIMEOUT seconds]): one GoogleTest program, its cases known to CTest.
function(toroid_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBS;LABELS;ENVIRONMENT" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(TOROID_SANITIZE)
    math(EXPR ARG_TIMEOUT "10 * ${ARG_TIMEOUT}")
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE toroid_options ${ARG_LIBS} GTest::gtest GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  toroid_quick_to_build(${name} HEADERS_OF toroid_test_headers)
  set(properties TIMEOUT ${ARG_TIMEOUT})
  set(environment ${ARG_ENVIRONMENT})
  if(TOROID_SANITIZE MATCHES "thread")
    list(APPEND environment "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp" "OMP_NUM_THREADS=1")
  endif()
  # The program is one CTest entry: a test process starts in milliseconds but a thousand of them do not.
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES ${properties})
  if(ARG_LABELS)
    set_property(TEST ${name} PROPERTY LABELS ${ARG_LABELS})
  endif()
  if(environment)
    set_property(TEST ${name} PROPERTY ENVIRONMENT ${environment})
  endif()
endfunction()

# toroid_fuzz(NAME SOURCE file LIBS ... [CORPUS directory] [FLAGS ...]): a libFuzzer target where TOROID_FUZZ is on, built
# by the target `fuzzers`, and a CTest entry labelled fuzz that runs it for TOROID_FUZZ_SECONDS on its seeds.
function(toroid_fuzz name)
  cmake_parse_arguments(ARG "" "SOURCE;CORPUS" "LIBS;FLAGS" ${ARGN})
  if(NOT TOROID_FUZZ)
    return()
  endif()
  if(NOT TARGET fuzzers)
    add_custom_target(fuzzers)
  endif()
  add_executable(${name} EXCLUDE_FROM_ALL ${ARG_SOURCE})
  add_dependencies(fuzzers ${name})
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer,address,undefined)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer,address,undefined)
  target_link_libraries(${name} PRIVATE toroid_options ${ARG_LIBS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  # New inputs go to the first directory; the seeds are only read.
  set(found ${CMAKE_BINARY_DIR}/fuzz/${name}.found)
  file(MAKE_DIRECTORY ${found})
  add_test(NAME ${name}
           COMMAND ${name} -max_total_time=${TOROID_FUZZ_SECONDS} -timeout=5 -rss_limit_mb=512 ${ARG_FLAGS} ${found}
                   ${ARG_CORPUS})
  set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT 600)
endfunction()
