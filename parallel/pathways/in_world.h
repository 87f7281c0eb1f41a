// Pods of one world of ranks: a lost rank ends the job, so every step that is issued counts and no
// contribution is kept for another try.
#pragma once

#include "parallel/pathways/pods.h"

namespace toroid::pathways {

// Gradients are summed in every step (pod_reduce.h), or, where the options say so, pods train apart and make
// an outer step together (outer_step.h). `device` and `pod` outlive it.
std::unique_ptr<Pods> make_in_world_pods(Device& device, Communicator& pod, const Options& options,
                                         std::vector<Shard> shards);

}  // namespace toroid::pathways
