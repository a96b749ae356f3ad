// `tandem train vit`: image classification.
#include <fmt/format.h>

#include <algorithm>

#include "autograd/noise.h"
#include "nn/io/text.h"
#include "nn/train/evaluate.h"
#include "ops/ops.h"
#include "tools/tandem/class_weights.h"
#include "tools/tandem/image_model.h"
#include "tools/tandem/method_choice.h"

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
        "fashion-mnist, a folder of IDX files, or a folder with train/ and test/, each with one folder of "
        "PNG files per class");
    to.option("--limit", limit_, integer(0),
              "train on N images, drawn at random from every class; 0: on all");
    to.option("--valid", held_out_, integer(0),
              "training images held out for validation; 0: a tenth, at most 2000");
    to.option("--crop-padding", augmentation_.crop_padding, integer(0),
              "augmentation: random crops of images padded by so many pixels");
    to.flag("--flip", augmentation_.flip, "augmentation: random left-right flips");
  }

  void declare_model(Command& to) override {
    method_.declare(to);
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
    to.flag("--zero-head", zero_head_, "start the classification head at zero");
    declare_class_weights(to, class_weights_);
  }

  std::string training_name(int passes) const override { return method_.training_name(passes); }

  std::string load() override {
    method_.settle();
    data::ImageSplits images = read_images(data_);
    const data::Normalization normalization = data::measure_normalization(images.train);
    make_spec(images.train, normalization);
    const int64_t skipped = images.train.skipped + images.test.skipped;
    const data::ImageDataset all(std::move(images.train), normalization, augmentation_);
    const auto [train, valid] = split(all.images().labels);
    train_ = std::make_unique<data::ImageDataset>(all.subset(train));
    valid_ = std::make_unique<data::ImageDataset>(all.subset(valid));
    test_ = std::make_unique<data::ImageDataset>(std::move(images.test), normalization);
    return fmt::format("{} training, {} validation and {} test images of {} classes", train_->size(),
                       valid_->size(), test_->size(), spec_.classes.size()) +
           (skipped > 0 ? fmt::format("\n{} files that are no images were left out", skipped) : "");
  }

  TaskModel make_model() const override {
    TaskModel model = make_image_model(spec_);
    if (auto* vit = dynamic_cast<models::Vit*>(model.module.get())) {
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
    const nn::Metrics test = nn::evaluate(*model.objective, *test_);
    Score accuracy = score("test accuracy", 100 * test.accuracy, 2, "%");
    if (settings.compare)
      accuracy = mean_score("test accuracy", found_classes(model, *test_), 2, "%", unit());
    return {accuracy, score("test CE", test.ce, 4)};
  }

  // On the test images of the data it was trained on, or of `given`: the checkpoint alone is enough.
  std::vector<Score> evaluate(const Run& run, const std::string& given) override {
    const ImageModelSpec spec = image_spec(run);
    const TaskModel model = load_image_model(run, spec);
    const std::string data = given.empty() ? find_data(spec.data, run.folder) : given;
    data::ImageSet test = read_images(data).test;
    check<ConfigError>(test.classes == spec.classes,
                       "--data: the classes of '{}' ({}) are not those of the run ({})", data,
                       data::join(test.classes, ", "), data::join(spec.classes, ", "));
    check<ConfigError>(test.height == spec.image_size() && test.width == spec.image_size() &&
                           test.channels == spec.channels(),
                       "--data: the images of '{}' are {}x{}x{}, the run's {}x{}x{}", data, test.channels,
                       test.height, test.width, spec.channels(), spec.image_size(), spec.image_size());
    const data::ImageDataset dataset(std::move(test), spec.normalization);
    const nn::Metrics metrics = nn::evaluate(*model.objective, dataset);
    return {score("images", static_cast<double>(dataset.size()), 0),
            mean_score("accuracy", found_classes(model, dataset), 2, "%", unit()), score("CE", metrics.ce, 4),
            score("images/s", metrics.samples_per_second, 0)};
  }

 private:
  Tensor weights() const {
    const auto& train = dynamic_cast<const data::ImageDataset&>(Recipe::train());
    return make_class_weights(class_weights_, spec_.classes, train.images().labels);
  }

  // Of each image: 100 where the likeliest class is the right one, else 0.
  static std::vector<double> found_classes(const TaskModel& model, const data::ImageDataset& images) {
    const nn::EvalMode mode(*model.module);
    std::vector<double> found(images.size());
    for (const data::Indices& indices : images.ordered_batches(256)) {
      const data::Batch batch = images.batch(indices, {}).to(model.module->device());
      const auto right =
          eq(argmax(model.objective->forward(batch), -1), batch.target).to(DType::f32).to_vector<double>();
      for (size_t i = 0; i < indices.size(); ++i) found[indices[i]] = 100 * right[i];
    }
    return found;
  }

  void make_spec(const data::ImageSet& train, const data::Normalization& normalization) {
    check<ConfigError>(train.height == train.width,
                       "--data: expected square images, got {}x{} (width x height)", train.width,
                       train.height);
    check<ConfigError>(train.classes.size() > 1, "--data: expected at least 2 classes, got '{}' alone",
                       train.classes.at(0));
    spec_ = {.config = {}, .classes = train.classes, .normalization = normalization, .data = {}};
    const auto classes = static_cast<int64_t>(train.classes.size());
    if (model_ == "cnn") {
      check<ConfigError>(
          train.height % 4 == 0,
          "--model cnn: expected images whose side 4 divides, got {}x{} pixels; vit takes them", train.width,
          train.height);
      spec_.config = models::CnnConfig{train.height, train.channels, classes, width_, dropout_};
      return;
    }
    models::VitConfig c = models::vit_preset(preset_);
    c.image_size = train.height, c.channels = train.channels, c.classes = classes;
    override_size(c.patch_size, patch_size_), override_size(c.dim, dim_), override_size(c.depth, depth_);
    override_size(c.heads, heads_), override_size(c.mlp_dim, mlp_dim_);
    c.dropout = dropout_, c.attention_dropout = attention_dropout_, c.drop_path = drop_path_;
    c.head_dropout = head_dropout_;
    check<ConfigError>(dropout_from_ < c.depth, "--dropout-from: expected a block below the depth {}, got {}",
                       c.depth, dropout_from_);
    c.dropout_from = std::min(c.depth, std::max(dropout_from_, settings.tuning.frozen_blocks()));
    c.zero_head = zero_head_;
    spec_.config = c;
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
    if (limit_ == 0) return {std::move(train), std::move(held_out)};
    std::stable_sort(train.begin(), train.end(), [&](int64_t a, int64_t b) { return labels[a] < labels[b]; });
    for (int64_t i = 0; i < limit_; ++i) train[i] = train[(2 * i + 1) * rest / (2 * limit_)];
    train.resize(limit_);
    return {std::move(train), std::move(held_out)};
  }

  std::string data_ = "fashion-mnist", model_ = "vit", preset_ = "tiny";
  int64_t limit_ = 0, held_out_ = 0;
  int64_t patch_size_ = 0, dim_ = 0, depth_ = 0, heads_ = 0, mlp_dim_ = 0, dropout_from_ = 0, width_ = 32;
  double dropout_ = 0.1, attention_dropout_ = 0, drop_path_ = 0, head_dropout_ = 0;
  bool zero_head_ = false;
  std::string class_weights_;
  data::Augmentation augmentation_;

  ClassifierMethod method_;
  ImageModelSpec spec_;
  std::unique_ptr<data::ImageDataset> test_;
};

const RegisterTask vit({"vit", "image classification: a ViT (or a small CNN), plain or with R-Drop",
                        make<VitRecipe>, kImageTask});

}  // namespace
}  // namespace tandem::command
