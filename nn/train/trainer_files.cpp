// What a trainer keeps in its run folder, and goes on from.
#include <algorithm>
#include <filesystem>

#include "nn/train/run_folder.h"
#include "nn/train/trainer_state.h"

namespace tandem::nn {
namespace {

std::optional<RunLock> lock_folder(const std::string& dir) {
  return dir.empty() ? std::nullopt : std::optional<RunLock>(dir);
}

// last.safetensors will be replaced by that of `now`: the one of `before`, if it is of this run, stays beside
// it where more than one is kept, and the oldest go.
void keep_checkpoints(Commit& commit, int64_t keep, std::optional<int64_t> before, int64_t now) {
  std::vector<int64_t> steps;
  for (const auto& [name, hash] : commit.hashes())
    if (const auto step = step_of_checkpoint(name)) steps.push_back(*step);
  std::sort(steps.begin(), steps.end());
  const bool one_more = keep > 1 && before && *before != now && commit.hashes().contains(kLastFile);
  const int64_t room = before ? keep - 1 - one_more : 0;
  for (int64_t i = 0; i < std::ssize(steps) - room; ++i) commit.drop(checkpoint_file(steps[i]));
  if (one_more) commit.link(kLastFile, checkpoint_file(*before));
}

}  // namespace

FitResult Trainer::fit(const data::Dataset& train, const data::Dataset& valid) {
  const State::Written before{*state_};
  const std::optional<RunLock> lock = lock_folder(first_rank() ? options_.run_dir : "");
  const State::Written after{*state_};
  *state_ = {};
  record_anew();
  if (ema_) ema_->restart();
  if (!options_.run_dir.empty() || options_.ranks)
    identity_ = run_identity(options_, optimizer_.lr(), train, valid);
  return run(train, valid);
}

FitResult Trainer::resume(const data::Dataset& train, const data::Dataset& valid,
                          std::optional<int64_t> step) {
  check<IoError>(options_.run_dir.empty() || std::filesystem::is_directory(options_.run_dir),
                 "resume: there is no folder '{}'", options_.run_dir);
  const State::Written before{*state_};
  const std::optional<RunLock> lock = lock_folder(first_rank() ? options_.run_dir : "");
  const State::Written after{*state_};
  restore(train, valid, step);
  agree("of the checkpoint", identity_);  // before the first rank writes there
  if (step && first_rank()) go_back_to_step();
  complete_folder();
  return run(train, valid);
}

void Trainer::restore(const data::Dataset& train, const data::Dataset& valid, std::optional<int64_t> step) {
  check<ConfigError>(!options_.run_dir.empty(), "resume: no run folder was given");
  const double lr = optimizer_.lr();
  identity_ = run_identity(options_, lr, train, valid);
  *state_ = State{load_last(options_.run_dir, objective_.module(), optimizer_, ema(), identity_, step)};
  optimizer_.set_lr(lr);  // older checkpoints have the last step's
  state_->has_checkpoint();
  record_anew();
  check<ConfigError>(state_->epoch <= options_.epochs,
                     "epochs: the run in '{}' has done {}, expected at least as many, got {}",
                     options_.run_dir, state_->epoch, options_.epochs);
  state_->result.stopped_early = out_of_patience();
}

int64_t Trainer::steps_done() const { return state_->step; }
const FitResult& Trainer::so_far() const { return state_->result; }

bool Trainer::saves_now() const {
  if (options_.save_steps > 0 && state_->step % options_.save_steps == 0) return true;
  if (options_.save_seconds == 0) return false;
  double due = first_rank() && State::seconds_since(state_->saved) >= options_.save_seconds;
  if (options_.ranks) options_.ranks->sum({&due, 1});  // by one clock
  return due > 0;
}

std::map<std::string, std::string> Trainer::kept_metadata() const {
  std::map<std::string, std::string> kept = options_.metadata;
  kept.insert(options_.notes.begin(), options_.notes.end());
  return kept;
}

LastFile Trainer::last(bool copied) const {
  Metadata kept = kept_metadata();
  kept.insert(identity_.begin(), identity_.end());
  return last_file(*state_, objective_.module(), optimizer_, ema_ ? &*ema_ : nullptr, std::move(kept),
                   copied);
}

// After a validation.
void Trainer::save_validated(bool best) {
  if (options_.run_dir.empty()) return;
  if (!first_rank()) return state_->has_checkpoint();
  if (state_->writing.valid()) state_->writing.get();
  const auto [tensors, metadata] = last(false);
  Commit commit(options_.run_dir);
  if (best) save_best(commit.add(kBestFile), *state_, kept_metadata());
  write_metrics(commit.add(kMetricsFile), state_->result);
  keep_checkpoints(commit, options_.keep, state_->checkpoint, state_->step);
  save_safetensors(commit.add(kLastFile), tensors, metadata);
  commit.finish();
  state_->has_checkpoint();
}

// Within an epoch: a copy is made at once, and written while training goes on.
void Trainer::save_part() {
  if (options_.run_dir.empty()) return;
  if (!first_rank()) return state_->has_checkpoint();
  if (state_->writing.valid()) state_->writing.get();
  state_->writing =
      std::async(std::launch::async, [dir = options_.run_dir, file = last(true), keep = options_.keep,
                                      before = state_->checkpoint, now = state_->step] {
        Commit commit(dir);
        if (!before)  // of a run that was here before
          for (const char* name : {kBestFile, kMetricsFile}) commit.drop(name);
        keep_checkpoints(commit, keep, before, now);
        save_safetensors(commit.add(kLastFile), file.tensors, file.metadata);
        commit.finish();
      });
  state_->has_checkpoint();
}

void Trainer::save() {
  save_part();
  if (state_->writing.valid()) state_->writing.get();
}

// Of a run of which last.safetensors alone is left, or that was made before there were manifests.
void Trainer::complete_folder() {
  if (state_->result.valid.empty()) return;
  const Manifest manifest(options_.run_dir);
  // The mean of a run's last weights is not what a longer one finds best.
  bool whole = manifest.exists() && options_.average == 0;
  for (const char* name : {kMetricsFile, kBestFile})
    whole = whole && manifest.lists(name) && std::filesystem::exists(options_.run_dir + "/" + name);
  if (!whole) save_validated(true);
}

// A folder as it was after the step that was restored: what came later goes, in one commit.
void Trainer::go_back_to_step() {
  Commit commit(options_.run_dir);
  const std::string name = checkpoint_file(state_->step);
  if (!commit.hashes().contains(name)) return;  // it is the last one
  commit.link(name, kLastFile);
  for (const int64_t step : Manifest(options_.run_dir).checkpoints())
    if (step >= state_->step) commit.drop(checkpoint_file(step));
  if (state_->result.valid.empty()) {
    for (const char* later : {kBestFile, kMetricsFile}) commit.drop(later);
  } else {
    save_best(commit.add(kBestFile), *state_, kept_metadata());
    write_metrics(commit.add(kMetricsFile), state_->result);
  }
  commit.finish();
}

// The mean of the last validations' weights (Vaswani et al. 2017, section 6.1).
void Trainer::try_average(const data::Dataset& valid) {
  objective_.module().load_state_dict(average(state_->recent));
  const Metrics validated = validate(valid);
  if (!better(validated, state_->result.best())) return;
  state_->result.averaged = validated;
  state_->best = host_copy(objective_.module().state_dict());
  report(state_->part.batches > 0 ? epoch_so_far() : state_->result.train.back(), validated, true);
  if (options_.run_dir.empty() || !first_rank()) return;
  Commit commit(options_.run_dir);  // going on goes on from the last weights, not from their mean
  save_best(commit.add(kBestFile), *state_, kept_metadata());
  commit.finish();
}

}  // namespace tandem::nn
