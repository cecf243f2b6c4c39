# Everything goes through `scripts/libtorch`, which finds libtorch, or installs it, and then runs a command.
WITH := bash scripts/libtorch

# What `make versus` compares, and on which photos; scripts/versus says what can be set.
TASKS := items loader
IMAGES := data/pets/images

# How long `make fuzz` takes for each of its targets.
FUZZ_SECONDS := 600

# Optional features that need nothing to be installed. Linting and documenting with them costs no second compile, since
# a feature only adds code.
OPTIONAL := dashboard,onnx,terminal

# The packages that do without libtorch. Beside `finetune`, cargo links them with libtorch too: `make test` builds all
# packages at once, since the runtime of ONNX files takes minutes to build, and `make lint` checks these alone.
ALONE := finetune-predict finetune-server

# The same packages and features each time, for which cargo compiles once.
TESTS := cargo test --workspace --features finetune/onnx

# How often `make kill-ranks` kills a process and `make kill` a training, and the seed of the moments of the latter.
TRIALS := 100
SEED := 1

.PHONY: predict-figures kill-ranks kill soak pets folder test golden lint doc notebook versus label accuracy interop decode fuzz sanitize libtorch

## The walk-through on the carried photos; its pictures land in target/pets/. ARGS="--help" lists its options.
pets:
	$(WITH) cargo run --release --example pets -- $(ARGS)

## A folder of photos, one sub-folder per class, to a model: make folder ARGS="PHOTOS"; ARGS="--help" lists the options.
folder:
	$(WITH) cargo run --release --example folder -- $(ARGS)

## Every test; ONNX files in a runtime too, and the comparison with fastai's values with libtorch's kernels for older processors.
test:
	$(WITH) sh -c 'LD_LIBRARY_PATH=$$LIBTORCH/lib $(TESTS)'
	ATEN_CPU_CAPABILITY=default $(WITH) $(TESTS) --test golden
	ATEN_CPU_CAPABILITY=avx2 $(WITH) $(TESTS) --test golden

## The comparison with fastai's values alone, one line per topic; FINETUNE_GOLDEN_DIR=DIR for other values.
golden:
	$(WITH) cargo test --test golden

## The comparison with the real timm, torchvision and fastai, and of ONNX files in ONNX Runtime and tract; scripts/interop says
## what can be set. NAMES="convnext_tiny vit_small_patch14_dinov2" compares just these networks, one line each; ONNX="resnet18
## head:vit_tiny_patch16_224 unet:resnet34" just the ONNX files of these, and ONNX=all those of all networks.
interop:
	$(WITH) env NAMES="$(NAMES)" ONNX="$(ONNX)" bash scripts/interop

## Decoding beside Pillow's, on files of every layout that are written for it.
decode:
	$(WITH) bash scripts/decode

## Damages files of weights for FUZZ_SECONDS per reader; needs cargo-fuzz.
fuzz:
	$(WITH) bash scripts/fuzz $(FUZZ_SECONDS)

## Kills a training TRIALS times at random moments and compares its end with that of an undisturbed one; SEED for others.
kill:
	$(WITH) cargo test --release --test kill -- --trials $(TRIALS) --seed $(SEED)

## Trains, predicts, searches learning rates and makes loaders for a long time, and prints the memory as it goes.
soak:
	$(WITH) cargo bench --bench soak

## The tests of the native layer under the address sanitizer; MODULES="sys:: …" for others.
sanitize:
	$(WITH) bash scripts/sanitize $(MODULES)

## Format, and clippy without warnings, with all that is optional and without anything.
lint:
	cargo fmt --all --check
	$(WITH) cargo clippy --workspace $(ALONE:%=--exclude %) --all-targets --features $(OPTIONAL) -- -D warnings
	$(WITH) cargo clippy --all-targets --no-default-features -- -D warnings
	cargo clippy --package finetune-image --lib -- -D warnings
	cargo clippy $(ALONE:%=--package %) --all-targets -- -D warnings
	! cargo tree $(ALONE:%=--package %) --edges normal | grep torch

## The API reference without warnings, in target/doc/.
doc:
	$(WITH) env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --features $(OPTIONAL)

## The cells of the notebook, without a kernel; scripts/notebook-check runs them with one.
notebook:
	$(WITH) cargo build
	$(WITH) python3 scripts/notebook-check --compiled docs/notebooks/pets.ipynb

## Speed and memory beside fastai's, on the same photos, in turn.
versus:
	$(WITH) python3 scripts/versus "$(IMAGES)" $(TASKS)

## Kills a process of a training TRIALS times; the weights at the end must be those of a run without a kill.
kill-ranks:
	$(WITH) python3 scripts/kill-ranks $(TRIALS)

## Seconds from the start of a process to the label of a photo, beside fastai's.
label:
	$(WITH) python3 scripts/label "$(IMAGES)"

## Size, time to the first label, memory and agreement of the predictor without libtorch, as one line of JSON.
predict-figures:
	$(WITH) python3 scripts/predict-figures "$(IMAGES)"

## Error rates beside fastai's from the same weights. ARGS="--help" lists the data sets, weights, sizes and seeds.
accuracy:
	$(WITH) python3 scripts/accuracy $(ARGS)

## Finds libtorch, or installs it into .libtorch/.
libtorch:
	$(WITH) true
