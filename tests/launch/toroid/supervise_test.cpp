// The parts of a supervisor, without a job: what its policy decides, what it understands of what a job says,
// and what it sees of a run's directory.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <thread>

#include "core/base/error.h"
#include "launch/toroid/command.h"
#include "launch/toroid/flight_recorder.h"
#include "launch/toroid/processes.h"
#include "launch/toroid/supervise/incidents.h"
#include "launch/toroid/supervise/places.h"
#include "launch/toroid/supervise/policy.h"
#include "launch/toroid/supervise/progress.h"
#include "launch/toroid/supervise/voice.h"
#include "parallel/comm/board/board.h"
#include "tests/core/base/io/temporary_directory.h"

namespace toroid::launch {
namespace {

namespace fs = std::filesystem;

void write(const Path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string contents(const Path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(RestartPolicy, what_a_restart_cannot_mend_is_not_started_again) {
  const RestartPolicy policy{RestartRules{}};
  for (const int code : {0, 2, 77}) EXPECT_FALSE(policy.ended(code, false, true).again) << code;
  for (const int code : {1, 3, 75, 76}) EXPECT_TRUE(policy.ended(code, false, false).again) << code;
}

TEST(RestartPolicy, waits_longer_after_each_restart_that_got_no_further) {
  RestartRules rules;
  rules.without_progress = 100;
  rules.first = Seconds(2);
  rules.longest = Seconds(30);
  RestartPolicy policy(rules);
  policy.resumes(0);
  std::vector<double> delays;
  for (int i = 0; i < 6; ++i) {
    delays.push_back(policy.ended(76, false, false).delay.count());
    policy.starts();
    policy.resumes(0);
  }
  EXPECT_EQ(delays, std::vector<double>({2, 4, 8, 16, 30, 30}));
  // A later checkpoint is there already, and a start that goes on from it is progress.
  EXPECT_EQ(policy.ended(76, false, true).delay, Seconds(2));
  policy.starts();
  policy.resumes(10);
  EXPECT_EQ(policy.ended(76, false, false).delay, Seconds(2));
  EXPECT_EQ(policy.ended(75, false, false).delay, Seconds(0));
}

TEST(RestartPolicy, gives_up_where_starts_get_no_further) {
  RestartRules rules;
  rules.without_progress = 2;
  RestartPolicy policy(rules);
  policy.resumes(40);
  for (int64_t step : {50, 60, 70, 80}) {
    EXPECT_TRUE(policy.ended(1, false, false).again);
    policy.starts();
    policy.resumes(step);
  }
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(policy.ended(1, false, false).again);
    EXPECT_FALSE(policy.exhausted());
    policy.starts();
    policy.resumes(i == 0 ? 80 : 75);  // an older one, since the newest was damaged
  }
  EXPECT_TRUE(policy.exhausted());
  const RestartPolicy::Decision decision = policy.ended(1, false, false);
  EXPECT_FALSE(decision.again);
  EXPECT_EQ(decision.why, "2 restarts in a row got no further than step 80");
  EXPECT_FALSE(policy.ended(75, false, false).again);
  policy.resumes(90);
  EXPECT_TRUE(policy.ended(1, false, false).again);
}

TEST(RestartPolicy, keeps_to_the_number_of_restarts) {
  RestartRules rules;
  rules.in_all = 2;
  RestartPolicy policy(rules);
  for (int64_t i = 1; i <= 2; ++i) {
    EXPECT_TRUE(policy.ended(76, false, true).again);
    policy.starts();
    policy.resumes(i);
  }
  EXPECT_FALSE(policy.ended(76, false, true).again);
}

// A lost host's lock is free a minute later; before a restart, it is somebody else's run.
TEST(RestartPolicy, waits_for_a_directory_that_a_lost_job_has) {
  RestartPolicy policy{RestartRules{}};
  EXPECT_FALSE(policy.ended(2, true, false).again);
  policy.starts();
  EXPECT_TRUE(policy.ended(2, true, false).again);
  EXPECT_EQ(policy.ended(2, true, false).delay, Seconds(20));
  EXPECT_FALSE(policy.ended(2, false, false).again);
}

Voice heard(const std::string& text) {
  Voice voice;
  for (const char c : text) voice.hear({&c, 1});
  return voice;
}

TEST(Voice, understands_where_a_job_goes_on) {
  const Voice voice =
      heard("[x] [info] resumed step 120 of /r/checkpoints/step-120; the data goes on at sequence 480\n");
  EXPECT_EQ(voice.resumed(), 120);
  EXPECT_EQ(voice.sentence(), "");
  EXPECT_FALSE(heard("resumed step nine of\n").resumed());
  EXPECT_FALSE(heard("resumed step 12").resumed());  // the line may not be whole
}

TEST(Voice, understands_who_is_the_cause) {
  const struct {
    const char* text;
    std::optional<int> rank;
    const char* sentence;
  } kCases[] = {
      {"toroid: rank 3 (rank 3 (pod 1, data 1)) is gone (its process 7 has ended); rank 1 (pod 0) waited\n"
       "mpirun noticed that process rank 3 with PID 0 on node n exited on signal 9 (Killed).\n",
       3, "rank 3 (rank 3 (pod 1, data 1)) is gone (its process 7 has ended); rank 1 (pod 0) waited"},
      {"mpirun noticed that process rank 5 with PID 0 on node n exited on signal 11.\n", 5,
       "mpirun noticed that process rank 5 with PID 0 on node n exited on signal 11."},
      {"mpirun noticed that process rank 5 with PID 0 on node n exited on signal 11.\n"
       "toroid: rank 5 (rank 5 (data 1)) is gone\n",
       5, "rank 5 (rank 5 (data 1)) is gone"},
      {"toroid: toroid: a deadline expired: rank 0 (data 0) has waited 5.0 s; not arrived: rank 2 (data 2)\n",
       2, "a deadline expired: rank 0 (data 0) has waited 5.0 s; not arrived: rank 2 (data 2)"},
      {"toroid: mismatched collectives on axis data, sequence number 5: rank 2 issued a where ranks 0, 1, 3 "
       "issued b\n",
       2,
       "mismatched collectives on axis data, sequence number 5: rank 2 issued a where ranks 0, 1, 3 issued "
       "b"},
      {"toroid: a deadline expired: rank 0 (data 0) has waited 2.0 s; every peer has begun it; on this host "
       "process 7 (rank 2 (pod 0, data 2)) is stopped by a signal\n"
       "toroid: rank 0 (rank 0 (data 0)) is gone (its process 6 has ended)\n",
       2,
       "a deadline expired: rank 0 (data 0) has waited 2.0 s; every peer has begun it; on this host process "
       "7 "
       "(rank 2 (pod 0, data 2)) is stopped by a signal"},
      // Of two that differ nobody knows which one is wrong.
      {"toroid: mismatched collectives on axis data, sequence number 5: rank 0 issued a where rank 1 issued "
       "b\n",
       std::nullopt,
       "mismatched collectives on axis data, sequence number 5: rank 0 issued a where rank 1 issued b"},
      {"toroid: warning: the rate is low\n", std::nullopt, ""},
      {"toroid: \x1b[31mred\n", std::nullopt, "\\x1b[31mred"},
  };
  for (const auto& [text, rank, sentence] : kCases) {
    const Voice voice = heard(text);
    EXPECT_EQ(voice.rank(), rank) << text;
    EXPECT_EQ(voice.sentence(), sentence) << text;
  }
  EXPECT_TRUE(heard("toroid: 'r' is in use by process 5 on host n\n").in_use());
}

TEST(Voice, a_line_without_an_end_takes_no_memory) {
  Voice voice;
  const std::string much(1 << 20, 'x');
  for (int i = 0; i < 20; ++i) voice.hear(much);
  voice.hear("\ntoroid: but then\n");
  EXPECT_EQ(voice.sentence(), "but then");
  EXPECT_GT(voice.bytes(), 20 << 20);
}

TEST(Progress, the_last_step_is_that_of_the_last_whole_row) {
  const TemporaryDirectory directory;
  const Path metrics = directory.path() / "metrics.jsonl";
  EXPECT_FALSE(last_step(directory.path()));
  const std::string row = R"({"step":7,"loss":1.5,"grad_norm":1})"
                          "\n";
  for (const auto& [text, step] : std::vector<std::pair<std::string, std::optional<int64_t>>>{
           {"", std::nullopt},
           {row, 7},
           {row + R"({"step":8,"validation_loss":2})"
                  "\n",
            7},
           {row + R"({"step":8)", 7},
           {row + R"({"step":99999999999999999999,"loss":1})", 7},
           {"\"step\":,\"loss\":", std::nullopt},
           {std::string(200'000, 'x'), std::nullopt},
           {std::string(200'000, 'x') + "\n" + row, 7}}) {
    write(metrics, text);
    EXPECT_EQ(last_step(directory.path()), step) << text.substr(0, 100);
  }
  fs::remove(metrics);
  ASSERT_EQ(::mkfifo(metrics.c_str(), 0600), 0);
  EXPECT_FALSE(last_step(directory.path()));  // and does not wait
}

TEST(Heartbeat, steps_are_those_of_this_start) {
  const TemporaryDirectory directory;
  const Path metrics = directory.path() / "metrics.jsonl";
  const auto row = [](int step) { return "{\"step\":" + std::to_string(step) + ",\"loss\":1}\n"; };
  write(metrics, row(1) + row(2) + row(3));
  Heartbeat heart(directory.path(), Seconds(5), Seconds(60));
  heart.begin();
  heart.look(10, 0);
  EXPECT_FALSE(heart.step());
  EXPECT_EQ(heart.limit(), Seconds(60));
  // The start drops the rows after what it goes on from, in a new file.
  write(directory.path() / "new", row(1) + row(2));
  fs::rename(directory.path() / "new", metrics);
  heart.look(20, 2);
  EXPECT_FALSE(heart.step());
  write(metrics, row(1) + row(2) + row(3));
  heart.look(20, 2);
  EXPECT_EQ(heart.step(), 3);
  EXPECT_EQ(heart.limit(), Seconds(5));
}

// A start that goes back makes the file twice, and the second may be given the number that the first one had.
TEST(Heartbeat, a_file_that_is_made_again_is_a_new_one) {
  const TemporaryDirectory directory;
  const Path metrics = directory.path() / "metrics.jsonl";
  const auto row = [](int step) { return "{\"step\":" + std::to_string(step) + ",\"loss\":1}\n"; };
  write(metrics, row(1) + row(2));
  Heartbeat heart(directory.path(), Seconds(5), Seconds(60));
  for (int step = 3; step < 20; ++step) {
    heart.begin();
    fs::remove(metrics);
    write(metrics, row(step));
    heart.look(10 * step, step - 1);
    EXPECT_EQ(heart.step(), step);
  }
}

TEST(Heartbeat, silence_is_counted_from_the_last_sign) {
  const TemporaryDirectory directory;
  Heartbeat heart(directory.path(), Seconds(5), Seconds(60));
  heart.begin();
  const auto silent = [&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    heart.look(0, 0);
    return heart.silent() > Seconds(0.02);
  };
  EXPECT_TRUE(silent());
  fs::create_directories(directory.path() / "checkpoints" / ".saving-step-5");
  EXPECT_FALSE(silent());
  EXPECT_TRUE(silent());
  write(directory.path() / "checkpoints" / ".saving-step-5" / "part", "a");
  EXPECT_FALSE(silent());
  EXPECT_TRUE(silent());
  write(directory.path() / "checkpoints" / ".saving-step-5" / "part", "ab");
  EXPECT_FALSE(silent());
}

TEST(Incidents, are_lines_that_are_completed) {
  const TemporaryDirectory directory;
  const Path file = directory.path() / Incidents::kName;
  write(file, "{\"of\":\"before\"}");
  Incidents incidents(directory.path());
  Incident incident;
  incident.time = "2026-01-31T12:00:00Z";
  incident.code = 76;
  incident.meaning = meaning_of(76);
  incident.said = "\"quoted\" \xff";
  incident.step = 47;
  incident.pods_before = 2;
  incidents.add(incident);
  EXPECT_NE(contents(file).find("\"step\":47,\"resumed\":null,\"lost_steps\":null,\"recovery_s\":null,"),
            std::string::npos)
      << contents(file);
  std::ofstream(file, std::ios::app) << "{\"kind\":\"corruption\"}\n";  // by a rank
  incidents.latest()->resumed = 40;
  incidents.latest()->recovery = Seconds(1.23456);
  incidents.latest()->rank = 3;
  incidents.write();
  EXPECT_EQ(
      contents(file),
      "{\"of\":\"before\"}\n"
      R"({"time":"2026-01-31T12:00:00Z","kind":"job ended","start":1,"code":76,"meaning":"a deadline expired or a peer was )"
      R"(lost","rank":3,"said":"\"quoted\" \ufffd","report":null,"step":47,"resumed":40,"lost_steps":7,"recovery_s":)"
      R"(1.235,"pods_before":2,"pods_after":null})"
      "\n{\"kind\":\"corruption\"}\n");
}

TEST(Incidents, hosts_with_lasting_faults_are_known) {
  const TemporaryDirectory directory;
  EXPECT_TRUE(spoiled_hosts(directory.path()).empty());
  write(directory.path() / Incidents::kName, R"({"kind":"corruption","host":"a.b.c","lasting":true})"
                                             "\n"
                                             R"({"kind":"corruption","host":"b","lasting":false})"
                                             "\n[1]\nnot json\n"
                                             R"({"kind":"corruption","host":"c","lasting":null}
{"host":7,"lasting":true}
{"host":"d","lasting":true})");
  EXPECT_EQ(spoiled_hosts(directory.path()), (std::set<std::string>{"a", "a.b.c", "d"}));
}

// Memory of a board that starts at a cache line.
struct alignas(64) Line {
  std::byte bytes[64];
};

TEST(FlightRecorder, names_the_rank_that_did_not_come) {
  const TemporaryDirectory directory;
  EXPECT_FALSE(read_flight_record(directory.path()));
  constexpr int kRanks = 3;
  std::vector<Line> memory(static_cast<size_t>(Board::bytes_for(kRanks)) / sizeof(Line) + 1);
  Board board(memory.data()->bytes, kRanks);
  for (int rank = 0; rank < kRanks; ++rank) {
    board.enter(rank, 100 + rank);
    board.describe(rank, "rank " + std::to_string(rank) + " (data " + std::to_string(rank) + ")");
    for (uint64_t sequence = 1; sequence <= 9; ++sequence) {
      if (rank == 1 && sequence == 9) continue;
      Published call;
      call.sequence = sequence;
      call.bytes = 4096;
      call.operation = "all_gather";
      call.tensor = "layer." + std::to_string(sequence) + " \x1b[31m";
      call.done = sequence < 9;
      board.publish(rank, 2, call);
    }
  }
  const std::string bytes(reinterpret_cast<const char*>(memory.data()),
                          static_cast<size_t>(Board::bytes_for(kRanks)));
  write(directory.path() / kBoardFile, bytes);
  const auto record = read_flight_record(directory.path());
  ASSERT_TRUE(record);
  EXPECT_EQ(record->late, std::vector<int>{1});
  const std::string text = std::regex_replace(record->text, std::regex("[0-9]+\\.[0-9]{3} s before: "), "");
  EXPECT_NE(text.find("rank 1 (data 1), process 101\n"
                      "  group 2: call 8, all_gather of 'layer.8 \\x1b[31m' (4,096 bytes), forward, done\n"
                      "  group 2: call 7, "),
            std::string::npos)
      << record->text;
  EXPECT_NE(
      text.find("  group 2: call 9, all_gather of 'layer.9 \\x1b[31m' (4,096 bytes), forward, under way\n"),
      std::string::npos);
  EXPECT_EQ(record->text.find("call 4,"), std::string::npos);  // the last four

  const std::string name = write_hang_report(directory.path(), "It hung.", *record);
  EXPECT_TRUE(name.starts_with("hang-report-")) << name;
  EXPECT_NE(contents(directory.path() / name).find("Late for a collective that others waited in: rank 1."),
            std::string::npos);
  EXPECT_NE(write_hang_report(directory.path(), "Again.", *record), name);

  // A rank that is late beside the steps, since it waits in one for somebody else, is not the cause.
  Published beside;
  beside.sequence = 4;
  beside.done = false;
  board.publish(0, 5, beside);
  for (const int rank : {1, 2}) {
    beside.sequence = 3;
    beside.done = true;
    board.publish(rank, 5, beside);
  }
  write(directory.path() / kBoardFile, {reinterpret_cast<const char*>(memory.data()), bytes.size()});
  EXPECT_EQ(read_flight_record(directory.path())->late, std::vector<int>{1});
  // One that was stopped, and woke when the job was ended, has begun it long after the others.
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  Published awake;
  awake.sequence = 9;
  board.publish(1, 2, awake);
  write(directory.path() / kBoardFile, {reinterpret_cast<const char*>(memory.data()), bytes.size()});
  EXPECT_EQ(read_flight_record(directory.path())->late, std::vector<int>{1});

  // Of another size, or of bytes that nobody wrote: no record, or one of nonsense that is printable.
  write(directory.path() / kBoardFile, bytes + "x");
  EXPECT_FALSE(read_flight_record(directory.path()));
  std::string noise(bytes.size(), '\0');
  for (size_t i = 0; i < noise.size(); ++i) noise[i] = static_cast<char>((i * 2654435761u) >> 13);
  write(directory.path() / kBoardFile, noise);
  const auto nonsense = read_flight_record(directory.path());
  ASSERT_TRUE(nonsense);
  EXPECT_TRUE(std::none_of(nonsense->text.begin(), nonsense->text.end(),
                           [](unsigned char c) { return (c < 0x20 && c != '\n') || c == 0x7f; }));
}

TEST(Places, hosts_are_read_and_written) {
  EXPECT_EQ(to_list(parse_hosts("a:2,b,c:12")), "a:2,b:1,c:12");
  for (const char* wrong : {"a:", ":2", "a:0", "a:-1", "a:x", "a:2,,b", "a:999999999999"}) {
    EXPECT_THROW((void)parse_hosts(wrong), UserError) << wrong;
  }
}

TEST(Places, as_many_whole_pods_as_the_hosts_carry) {
  const TemporaryDirectory directory;
  const Path gone = directory.path() / "gone";
  PlaceFinder::Sources sources;
  sources.hosts = "a:3,b:3,c:2";
  // The host is the last word of the command.
  sources.command = "sh -c '! grep -qx \"$1\" " + gone.string() + " 2>/dev/null' sh";
  const PlaceFinder finder(sources, 4, 2);
  Places places = finder.find();
  EXPECT_EQ(places.pods, 4);
  EXPECT_EQ(places.hosts, "a:3,b:3,c:2");
  write(gone, "b\n");
  places = finder.find();
  EXPECT_EQ(places.pods, 2);
  EXPECT_EQ(places.hosts, "a:3,c:1");
  ASSERT_EQ(places.lacks.size(), 1u);
  EXPECT_EQ(places.lacks[0], "host b does not answer");
  write(gone, "a\nb\nc\n");
  EXPECT_EQ(finder.find().pods, 0);
  write(gone, "");
  sources.spoiled = [] { return std::set<std::string>{"a"}; };
  places = PlaceFinder(sources, 4, 2).find();
  EXPECT_EQ(places.pods, 2);
  EXPECT_EQ(places.hosts, "b:3,c:1");
  EXPECT_EQ(places.lacks.size(), 1u);
  sources.hosts.clear();
  EXPECT_THROW(PlaceFinder(sources, 4, 2), UserError);
}

TEST(Places, a_file_says_how_many_pods) {
  const TemporaryDirectory directory;
  PlaceFinder::Sources sources;
  sources.pods_file = directory.path() / "pods";
  const PlaceFinder finder(sources, 4, 2);
  EXPECT_EQ(finder.find().pods, 4);
  for (const auto& [text, pods] : std::vector<std::pair<std::string, int64_t>>{
           {"3\n", 3}, {"0", 0}, {"9", 4}, {"many", 4}, {"", 4}, {"-1", 4}}) {
    write(sources.pods_file, text);
    EXPECT_EQ(finder.find().pods, pods) << text;
  }
  sources.elastic = false;
  write(sources.pods_file, "1");
  EXPECT_EQ(PlaceFinder(sources, 1, 2).find().pods, 1);
}

// What a command leaves running is ended, though it is stopped and its parent is gone.
TEST(RunCommand, nothing_of_it_stays) {
  const TemporaryDirectory directory;
  const Path note = directory.path() / "pid";
  const Ended ended = run_command(
      {"/bin/sh", "-c", "sleep 300 & echo $! >" + note.string() + "; kill -STOP $!; kill -KILL $$"});
  EXPECT_TRUE(WIFSIGNALED(ended.status));
  const pid_t left = static_cast<pid_t>(std::stol(contents(note)));
  EXPECT_NE(::kill(left, 0), 0) << left;
  EXPECT_TRUE(children_of(::getpid()).empty());
}

TEST(RunCommand, what_it_says_is_heard_and_it_can_be_ended) {
  std::string said;
  bool end = false;
  Onlooker onlooker;
  onlooker.heard = [&](std::string_view text) {
    said += text;
    end = true;
  };
  onlooker.look = [&] { return end ? Ask::end : Ask::goes_on; };
  onlooker.every = Seconds(0.01);
  SignalForwarding signals;
  const Ended ended = run_command({"/bin/sh", "-c", "echo a word >&2; sleep 300"}, signals, onlooker);
  EXPECT_EQ(said, "a word\n");
  EXPECT_TRUE(ended.stopped_by_onlooker);
  EXPECT_TRUE(WIFSIGNALED(ended.status) && WTERMSIG(ended.status) == SIGTERM);
}

}  // namespace
}  // namespace toroid::launch
