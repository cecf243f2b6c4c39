# Everything goes through `scripts/libtorch`, which finds libtorch, or installs it, and then runs a command.
WITH := bash scripts/libtorch

# The tasks of `make versus`, and their photos. scripts/versus describes the settings.
TASKS := items loader
IMAGES := data/pets/images

# Seconds per target of `make fuzz`.
FUZZ_SECONDS := 600

# Optional features without further requirements. Linting and documenting with all of them needs no second
# compilation, since a feature only adds code.
OPTIONAL := dashboard,onnx,terminal

# The packages without libtorch. `make test` builds all packages at once, since the runtime of ONNX files
# takes minutes to build; cargo then links these packages with libtorch too. `make lint` checks them alone.
ALONE := finetune-predict finetune-server

# All test commands use the same packages and features, so that cargo compiles once.
TESTS := cargo test --workspace --features finetune/onnx

# The number of kills of `make kill-ranks` and `make kill`, and the seed of the latter.
TRIALS := 100
SEED := 1

.PHONY: gpu predict-figures serve-load kill-ranks kill soak pets folder test golden lint doc notebook versus label accuracy interop decode fuzz sanitize libtorch

## Runs the walk-through on the bundled photos and writes its figures to target/pets/. ARGS="--help" lists its options.
pets:
	$(WITH) cargo run --release --example pets -- $(ARGS)

## Trains on a folder of photos, one sub-folder per class: make folder ARGS="PHOTOS"; ARGS="--help" lists the options.
folder:
	$(WITH) cargo run --release --example folder -- $(ARGS)

## Runs all tests, including ONNX files in a runtime, and the comparison with fastai's values with libtorch's kernels for older processors.
test:
	$(WITH) sh -c 'LD_LIBRARY_PATH=$$LIBTORCH/lib $(TESTS)'
	ATEN_CPU_CAPABILITY=default $(WITH) $(TESTS) --test golden
	ATEN_CPU_CAPABILITY=avx2 $(WITH) $(TESTS) --test golden

## Runs only the comparison with fastai's values, one line per topic. FINETUNE_GOLDEN_DIR=DIR reads other values.
golden:
	$(WITH) $(TESTS) --test golden

## Compares with the real timm, torchvision and fastai, and ONNX files in ONNX Runtime and tract; scripts/interop describes the
## settings. NAMES="convnext_tiny vit_small_patch14_dinov2" compares only these networks, one line each; ONNX="resnet18
## head:vit_tiny_patch16_224 unet:resnet34" only the ONNX files of these, and ONNX=all those of all networks.
interop:
	$(WITH) env TESTS="$(TESTS)" NAMES="$(NAMES)" ONNX="$(ONNX)" bash scripts/interop

## Compares decoding with Pillow, on generated files of every layout.
decode:
	$(WITH) env TESTS="$(TESTS)" bash scripts/decode

## Fuzzes the readers of files for FUZZ_SECONDS each; needs cargo-fuzz.
fuzz:
	$(WITH) bash scripts/fuzz $(FUZZ_SECONDS)

## Kills a training TRIALS times at random moments and compares the result with that of an undisturbed run. SEED selects the moments.
kill:
	$(WITH) cargo test --release --test kill -- --trials $(TRIALS) --seed $(SEED)

## Repeats training, prediction, learning rate searches and loader creation for a long time, and prints the memory as it goes.
soak:
	$(WITH) cargo bench --bench soak

## Runs the tests of the native layer under the address sanitizer. MODULES="sys:: …" selects other modules.
sanitize:
	$(WITH) bash scripts/sanitize $(MODULES)

## Checks the format, and runs clippy without warnings, with all optional features and with none.
lint:
	cargo fmt --all --check
	$(WITH) cargo clippy --workspace $(ALONE:%=--exclude %) --all-targets --features $(OPTIONAL) -- -D warnings
	$(WITH) cargo clippy --all-targets --no-default-features -- -D warnings
	cargo clippy --package finetune-image --lib -- -D warnings
	cargo clippy $(ALONE:%=--package %) --all-targets -- -D warnings
	! cargo tree $(ALONE:%=--package %) --edges normal | grep torch

## Builds the API reference without warnings, in target/doc/.
doc:
	$(WITH) env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --features $(OPTIONAL)

## Runs the cells of the notebook without a kernel; scripts/notebook-check runs them with one.
notebook:
	$(WITH) cargo build
	$(WITH) python3 scripts/notebook-check --compiled docs/notebooks/pets.ipynb

## Compares speed and memory with fastai, alternating on the same photos; TASKS=networks compares networks with timm.
versus:
	$(WITH) python3 scripts/versus "$(IMAGES)" $(TASKS)

## Kills a process of a distributed training TRIALS times; the final weights must be those of a run without a kill.
kill-ranks:
	$(WITH) python3 scripts/kill-ranks $(TRIALS)

## Assembles target/gpu/ for a machine that has a GPU and a Python with torch, but no Rust: run gpu-check there (docs/gpu.md).
gpu:
	$(WITH) cargo build --release --example gpu_check
	rm -rf target/gpu
	mkdir -p target/gpu
	strip -o target/gpu/gpu_check target/release/examples/gpu_check
	cp scripts/gpu-check scripts/resnet50_peer.py target/gpu/
	cp -R data/pets/images target/gpu/images
	du -sm target/gpu | awk '{ print $$2 ": " $$1 " MB"; exit $$1 > 60 }'

## Measures the seconds from the start of a process to the label of a photo, and compares them with fastai.
label:
	$(WITH) python3 scripts/label "$(IMAGES)"

## Prints size, time to the first label, memory and agreement of the predictor without libtorch, as one line of JSON.
predict-figures:
	$(WITH) python3 scripts/predict-figures "$(IMAGES)"

## Prints requests per second, latency, memory and lost requests of the server under load, as one line of JSON; needs wrk.
## MODEL=pets.onnx takes a file of yours. It fails if a request is lost or an invalid upload is not answered with 4xx.
serve-load:
	$(WITH) python3 scripts/serve-load "$(IMAGES)" $(MODEL)

## Compares error rates with fastai, from the same weights. ARGS="--help" lists the data sets, weights, sizes and seeds.
accuracy:
	$(WITH) python3 scripts/accuracy $(ARGS)

## Finds libtorch, or installs it into .libtorch/, and prints how to set LIBTORCH for programs outside this folder.
libtorch:
	$(WITH) sh -c 'echo "export LIBTORCH=$$LIBTORCH"'
