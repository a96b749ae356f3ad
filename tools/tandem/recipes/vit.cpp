// `tandem train vit`: image classification.
#include <fmt/format.h>

#include <algorithm>

#include "autograd/noise.h"
#include "autograd/tell.h"
#include "nn/data/label_sets.h"
#include "nn/io/text.h"
#include "nn/train/evaluate.h"
#include "ops/ops.h"
#include "tools/tandem/class_weights.h"
#include "tools/tandem/image_model.h"
#include "tools/tandem/init_choice.h"
#include "tools/tandem/method_choice.h"
#include "tools/tandem/multi_label.h"

namespace tandem::command {
namespace {

class VitRecipe final : public Recipe {
 public:
  std::string unit() const override { return "images"; }
  double largest_rate() const override { return std::max({dropout_, attention_dropout_, head_dropout_}); }
  nn::Metadata metadata() const override {
    ImageModelSpec spec = spec_;
    spec.data = data_;
    return to_metadata(spec);
  }

  void declare_data(Command& to) override {
    to.group("Data");
    to.option(
        "--data", data_, not_empty(),
        "photos: a folder with one folder of JPEG, PNG or WebP files per class, perhaps in train/ and val/ "
        "or test/, or a list of them (image<TAB>label, .csv, .jsonl); fashion-mnist; a folder of IDX files");
    to.option("--limit", limit_, integer(0),
              "train on N images, drawn at random from every class; 0: on all");
    to.option("--valid", held_out_, integer(0),
              "training images held out for validation; 0: a tenth, at most 2000");
    to.option("--crop-padding", augmentation_.crop_padding, integer(0),
              "augmentation: random crops of images padded by so many pixels");
    to.flag("--flip", augmentation_.flip, "augmentation: random left-right flips");
    photos_.declare(to);
  }
  void find_options(const Command& of) override { photos_.find_options(of), init_.find_options(of); }

  void declare_model(Command& to) override {
    method_.declare(to, true);
    to.group("Model");
    to.option("--model", model_, one_of({"vit", "cnn"}), "vit or cnn");
    to.option("--preset", preset_, one_of(models::vit_preset_names()),
              "sizes of the ViT: " + data::join(models::vit_preset_names(), ", "));
    to.option("--patch-size", patch_size_, integer(0, 1 << 20), "side of a patch in pixels; 0: the preset's");
    to.option("--dim", dim_, integer(0, 1 << 20), "embedding width; 0: the preset's");
    to.option("--depth", depth_, integer(0, 10'000), "encoder blocks; 0: the preset's");
    to.option("--heads", heads_, integer(0, 1 << 20), "attention heads; 0: the preset's");
    to.option("--mlp-dim", mlp_dim_, integer(0, 1 << 20), "hidden width of the MLP; 0: the preset's");
    to.option("--width", width_, integer(1, 1 << 20), "channels of the CNN's first block");
    to.option("--dropout", dropout_, fraction(), "dropout rate");
    to.option("--attention-dropout", attention_dropout_, fraction(),
              "dropout rate of attention probabilities");
    to.option("--drop-path", drop_path_, fraction(), "stochastic depth: the last block's rate");
    to.option("--head-dropout", head_dropout_, fraction(), "dropout rate before the head");
    to.option("--dropout-from", dropout_from_, integer(0, 10'000),
              "first block with noise; those below run once for all passes");
    to.flag("--zero-head", zero_head_,
            "start the classification head at zero, as a new head over --init's weights does");
    init_.declare(to, "vit, deit, dinov2 or timm's vit_* or deit_*,");
    declare_class_weights(to, class_weights_);
  }

  std::string training_name(int passes) const override { return method_.training_name(passes); }

  std::string load() override {
    method_.settle();
    if (!init_.empty()) open_init();
    if (std::optional<data::PhotoSplits> photos = photos_.find(data_, held_out_, !init_.empty()))
      return load_photos(std::move(*photos));
    check<ConfigError>(!photos_.label_sets(), "--multi-label: expected photos, or a file that lists them");
    data::ImageSplits images = read_images(data_);
    check<ConfigError>(images.train.height == images.train.width,
                       "--data: expected square images, got {}x{} (width x height)", images.train.width,
                       images.train.height);
    const auto [train, valid] = split(images.train.labels);
    const int64_t size = init_.empty()              ? images.train.height
                         : photos_.image_size() > 0 ? photos_.image_size()
                                                    : pretrained_.image_size,
                  channels = init_.empty() ? images.train.channels : pretrained_.channels;
    const int64_t old = images.train.height;
    const bool fits = size == images.train.height && channels == images.train.channels;
    const data::Normalization normalization =
        init_.model_mean_or(data::measure_normalization(images.train), channels);
    make_spec(size, channels, images.train.classes, normalization);
    spec_.resized = !fits;
    const int64_t skipped = images.train.skipped + images.test.skipped;
    const auto part = [&](const data::Indices& indices, data::Augmentation augmentation) {
      return std::make_unique<data::ImageDataset>(
          resized(data::subset(images.train, indices), size, channels), normalization, augmentation);
    };
    for (const int64_t i : train) train_labels_.push_back(images.train.labels[i]);
    train_ = part(train, augmentation_), valid_ = part(valid, augmentation_);
    test_ =
        std::make_unique<data::ImageDataset>(resized(std::move(images.test), size, channels), normalization);
    return fmt::format("{} training, {} validation and {} test images of {} classes", train_->size(),
                       valid_->size(), test_->size(), spec_.classes.size()) +
           (skipped > 0 ? fmt::format("\n{} files that are no images were left out", skipped) : "") +
           (fits ? "" : fmt::format("\nresized from {}x{} to {}x{} pixels", old, old, size, size)) +
           init_table();
  }

  TaskModel make_model() const override {
    check<ConfigError>(
        !photos_.augments_passes() || method_.name == "rdrop" || nn::mixes_samples(method_.name),
        "--augment-passes: expected --method rdrop or one that mixes samples, got {}", method_.name);
    TaskModel model = make_image_model(spec_);
    if (photos_.label_sets()) {
      auto* vit = dynamic_cast<models::Vit*>(model.module.get());
      check<ConfigError>(vit != nullptr && method_.name == "rdrop" && class_weights_.empty(),
                         "--multi-label: expected --model vit, --method rdrop and no --class-weights");
      if (!init_.empty()) init_.fill(*vit, !keeps_head_);
      model.objective = std::make_unique<nn::MultiLabel<models::Vit>>(*vit);
      return model;
    }
    if (auto* vit = dynamic_cast<models::Vit*>(model.module.get())) {
      if (!init_.empty()) init_.fill(*vit, !keeps_head_);
      model.objective = method_.make(models::hookable(*vit), settings, weights());
    } else {
      check<ConfigError>(method_.name == "rdrop", "--method {}: expected --model vit, got {}", method_.name,
                         model_);
      if (auto* cnn = dynamic_cast<models::Cnn*>(model.module.get()))
        model.objective = std::make_unique<nn::Classification<models::Cnn>>(*cnn, weights());
    }
    return model;
  }

  std::vector<Score> scores(TaskModel& model, const std::string&) const override {
    if (photos_.label_sets())
      return multi_label_scores(logits_of(*model.objective, *test_), target_labels(*test_), unit(),
                                settings.compare);
    const nn::Metrics test = nn::evaluate(*model.objective, *test_);
    Score accuracy = score("test accuracy", 100 * test.accuracy, 2, "%");
    if (settings.compare)
      accuracy = mean_score("test accuracy", found_classes(model, *test_), 2, "%", unit());
    return {accuracy, score("test CE", test.ce, 4)};
  }

  nn::ValidationMetric metric(TaskModel& model) const override {
    if (!photos_.label_sets()) return {};
    return multi_label_metric([this, &objective = *model.objective] { return logits_of(objective, *valid_); },
                              *valid_);
  }

  // With the test images of the data it was trained on, or of `given`: the checkpoint alone is enough.
  TaskModel open(const Run& run, const std::string& given) override {
    spec_ = image_spec(run);
    TaskModel model = load_image_model(run, spec_);
    const std::string data = given.empty() ? find_data(spec_.data, run.folder) : given;
    if (spec_.photos) {
      data::PhotoList photos = test_photos(spec_, data, !given.empty());
      const std::vector<std::string> classes = photos.classes;
      test_ = with_sets(
          std::make_unique<data::PhotoDataset>(
              std::move(photos), data::PhotoDatasetOptions{.view = spec_.photos->view(spec_.image_size()),
                                                           .normalization = spec_.normalization,
                                                           .skip_bad = true}),
          classes, spec_);
      return model;
    }
    data::ImageSet test = read_images(data).test;
    if (spec_.resized) test = resized(std::move(test), spec_.image_size(), spec_.channels());
    check<ConfigError>(test.classes == spec_.classes,
                       "--data: the classes of '{}' ({}) are not those of the run ({})", data,
                       data::join(test.classes, ", "), data::join(spec_.classes, ", "));
    check<ConfigError>(test.height == spec_.image_size() && test.width == spec_.image_size() &&
                           test.channels == spec_.channels(),
                       "--data: the images of '{}' are {}x{}x{}, the run's {}x{}x{}", data, test.channels,
                       test.height, test.width, spec_.channels(), spec_.image_size(), spec_.image_size());
    test_ = std::make_unique<data::ImageDataset>(std::move(test), spec_.normalization);
    return model;
  }

  std::vector<Score> evaluate(const Run& run, const std::string& data) override {
    const TaskModel model = open(run, data);
    if (has_sets())
      return multi_label_scores(logits_of(*model.objective, *test_), target_labels(*test_), unit(), true);
    const nn::Metrics metrics = nn::evaluate(*model.objective, *test_);
    const std::vector<double> found = found_classes(model, *test_);
    return {score("images", static_cast<double>(found.size()), 0),
            mean_score("accuracy", found, 2, "%", unit()), score("CE", metrics.ce, 4),
            score("images/s", metrics.samples_per_second, 0)};
  }

  bool has_examples() const override { return true; }
  Examples examples(const Run&) const override {
    if (has_sets()) return {};
    return {.samples = test_.get(), .classes = spec_.classes, .unit = unit(), .pixels = spec_.normalization};
  }

 private:
  Tensor weights() const { return make_class_weights(class_weights_, spec_.classes, train_labels_); }

  bool has_sets() const { return spec_.photos && spec_.photos->label_sets; }

  // Those that the model was not trained on, or those that were given.
  static data::PhotoList test_photos(const ImageModelSpec& spec, const std::string& data, bool given) {
    // What is no picture was left out of the training, if there was any: of what is here now, too.
    const bool sets = spec.photos->label_sets;
    data::PhotoSplits photos =
        given ? data::find_test_photos(data, sets ? std::vector<std::string>() : spec.classes, true)
              : data::find_photos(data, spec.photos->split(true));
    if (!photos.bad.empty()) tell("warning: {}", describe_bad(photos.bad).substr(1));
    check<ConfigError>(given || sets || photos.train.classes == spec.classes,
                       "--data: the classes of '{}' ({}) are not those of the run ({})", data,
                       data::join(photos.train.classes, ", "), data::join(spec.classes, ", "));
    return std::move(photos.test);
  }

  std::string load_photos(data::PhotoSplits photos) {
    const models::VitConfig preset = init_.empty() ? models::vit_preset(preset_) : pretrained_;
    const int64_t size = photos_.choose_size(photos, preset, !init_.empty());
    const data::Normalization normalization = init_.model_mean_or(data::imagenet_normalization(), 3);
    const bool sets = photos_.label_sets();
    make_spec(size, 3, sets ? data::labels_of(photos.train.classes) : photos.train.classes, normalization,
              photos_.spec(held_out_));
    if (limit_ > 0) {
      check<ConfigError>(limit_ <= photos.train.size(),
                         "--limit: expected at most the {} training photos, got {}", photos.train.size(),
                         limit_);
      photos.train = photos.train.subset(from_every_class(
          permutation(noise_key(0, 0, site_hash("limit"), 0, Purpose::shuffle), photos.train.size()),
          photos.train.labels));
    }
    std::string about = photos_.describe(photos, size);
    if (const auto* vit = std::get_if<models::VitConfig>(&spec_.config)) {
      photos_.choose_batch(photos.train.size(), settings.trainer.passes * activation_bytes(*vit));
      about += fmt::format(", {0}x{0} patches of {1}", size / vit->patch_size, vit->patch_size);
    }
    about += fmt::format(", {} in a batch", settings.trainer.batch_size) + init_table();
    train_labels_ = photos.train.labels;
    const std::vector<std::string> classes = photos.train.classes;
    const auto dataset = [&](data::PhotoList list) {
      return with_sets(photos_.dataset(std::move(list), size, normalization), classes, spec_);
    };
    train_ = dataset(std::move(photos.train)), valid_ = dataset(std::move(photos.valid));
    test_ = dataset(std::move(photos.test));
    return about;
  }

  // With targets as --multi-label has them, where the run has that.
  static std::unique_ptr<data::Dataset> with_sets(std::unique_ptr<data::Dataset> samples,
                                                  const std::vector<std::string>& classes,
                                                  const ImageModelSpec& spec) {
    if (!spec.photos || !spec.photos->label_sets) return samples;
    return std::make_unique<data::LabelSetDataset>(std::move(samples),
                                                   data::label_table(classes, spec.classes, "--data"));
  }
  static Logits logits_of(nn::Objective& objective, const data::Dataset& images) {
    const nn::EvalMode mode(objective.module());
    Logits logits;
    for (const data::Indices& indices : images.ordered_batches(256)) {
      const Tensor out = objective.forward(images.batch(indices, {}).to(objective.module().device()));
      const auto values = out.to_vector<double>();
      for (auto row = values.begin(); row != values.end(); row += out.size(1))
        logits.emplace_back(row, row + out.size(1));
    }
    return logits;
  }

  // Of each image: 100 where the likeliest class is the right one, else 0.
  static std::vector<double> found_classes(const TaskModel& model, const data::Dataset& images) {
    const nn::EvalMode mode(*model.module);
    std::vector<double> found;
    for (const data::Indices& indices : images.ordered_batches(256)) {
      const data::Batch host = images.batch(indices, {}), batch = host.to(model.module->device());
      const auto counts =
          host.valid.defined() ? host.valid.to_vector<uint8_t>() : std::vector<uint8_t>(indices.size(), 1);
      const auto right =
          eq(argmax(model.objective->forward(batch), -1), batch.target).to(DType::f32).to_vector<double>();
      for (size_t i = 0; i < indices.size(); ++i)
        if (counts[i] != 0) found.push_back(100 * right[i]);
    }
    return found;
  }

  void make_spec(int64_t size, int64_t channels, const std::vector<std::string>& names,
                 const data::Normalization& normalization, std::optional<PhotoSpec> photos = {}) {
    check<ConfigError>(names.size() > 1, "--data: expected at least 2 classes, got '{}' alone", names.at(0));
    spec_ = {.config = {}, .classes = names, .normalization = normalization, .data = {}, .photos = photos};
    const auto classes = static_cast<int64_t>(names.size());
    if (model_ == "cnn") {
      check<ConfigError>(init_.empty(), "--init: expected --model vit, got cnn");
      check<ConfigError>(
          size % 4 == 0,
          "--model cnn: expected images whose side 4 divides, got {0}x{0} pixels; vit takes them", size);
      spec_.config = models::CnnConfig{size, channels, classes, width_, dropout_};
      return;
    }
    models::VitConfig c = init_.empty() ? models::vit_preset(preset_) : pretrained_;
    if (init_.empty() && (spec_.photos || size % c.patch_size != 0)) c.patch_size = fitting_patch(size, c);
    check<ConfigError>(size % c.patch_size == 0,
                       "--image-size: --init's model has patches of {}, expected a multiple of it, got {}",
                       c.patch_size, size);
    c.image_size = size, c.image_width = 0, c.channels = channels, c.classes = classes;
    override_size(c.patch_size, patch_size_), override_size(c.dim, dim_), override_size(c.depth, depth_);
    override_size(c.heads, heads_), override_size(c.mlp_dim, mlp_dim_);
    c.dropout = dropout_, c.attention_dropout = attention_dropout_, c.drop_path = drop_path_;
    c.head_dropout = head_dropout_;
    check<ConfigError>(dropout_from_ < c.depth, "--dropout-from: expected a block below the depth {}, got {}",
                       c.depth, dropout_from_);
    keeps_head_ = !init_.empty() && init_.keeps_head(names);
    c.dropout_from = std::min(c.depth, std::max(dropout_from_, settings.tuning.frozen_blocks()));
    c.zero_head = zero_head_ || !init_.empty();
    spec_.config = c;
  }

  void open_init() {
    check<ConfigError>(
        patch_size_ == 0 && dim_ == 0 && depth_ == 0 && heads_ == 0 && mlp_dim_ == 0,
        "--init: the sizes are those of '{}', expected no --patch-size, --dim, --depth, --heads or "
        "--mlp-dim",
        init_.path());
    pretrained_ = models::vit_config(init_.open());
  }
  std::string init_table() const {
    const auto* config = std::get_if<models::VitConfig>(&spec_.config);
    return config ? init_.table<models::Vit>(*config, !keeps_head_) : "";
  }

  // Images held out at random to validate on, and those to train on: the rest, or limit_ of them, of every
  // class as large a part as it has of the rest.
  std::pair<data::Indices, data::Indices> split(const std::vector<int64_t>& labels) const {
    const int64_t count = std::ssize(labels),
                  valid = held_out_ > 0 ? held_out_ : std::clamp<int64_t>(count / 10, 1, 2000),
                  rest = count - valid;
    check<ConfigError>(valid < count, "--valid: expected fewer than the {} training images, got {}", count,
                       valid);
    check<ConfigError>(
        limit_ <= rest,
        "--limit: expected at most {}, the {} training images without {} for validation, got {}", rest, count,
        valid, limit_);
    const data::Indices order =
        permutation(noise_key(0, 0, site_hash("validation"), 0, Purpose::shuffle), count);
    data::Indices held_out(order.begin(), order.begin() + valid), train(order.begin() + valid, order.end());
    if (limit_ > 0) train = from_every_class(std::move(train), labels);
    return {std::move(train), std::move(held_out)};
  }

  // limit_ of those in that order, of every class as large a part as it has of them.
  data::Indices from_every_class(data::Indices order, const std::vector<int64_t>& labels) const {
    const int64_t count = std::ssize(order);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return labels[a] < labels[b]; });
    for (int64_t i = 0; i < limit_; ++i) order[i] = order[(2 * i + 1) * count / (2 * limit_)];
    order.resize(limit_);
    return order;
  }

  std::string data_ = "fashion-mnist", model_ = "vit", preset_ = "tiny";
  int64_t limit_ = 0, held_out_ = 0;
  int64_t patch_size_ = 0, dim_ = 0, depth_ = 0, heads_ = 0, mlp_dim_ = 0, dropout_from_ = 0, width_ = 32;
  double dropout_ = 0.1, attention_dropout_ = 0, drop_path_ = 0, head_dropout_ = 0;
  bool zero_head_ = false;
  std::string class_weights_;
  std::vector<int64_t> train_labels_;
  data::Augmentation augmentation_;
  PhotoChoice photos_;

  InitChoice init_;
  models::VitConfig pretrained_;  // of --init
  bool keeps_head_ = false;       // --init's, which has the same classes

  ClassifierMethod method_;
  ImageModelSpec spec_;
  std::unique_ptr<data::Dataset> test_;
};

const RegisterTask vit({"vit", "image classification: a ViT (or a small CNN), plain or with R-Drop",
                        make<VitRecipe>, kImageTask});

}  // namespace
}  // namespace tandem::command
