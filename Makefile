# Everything goes through `scripts/libtorch`, which finds libtorch or installs it and then runs a command.
WITH := bash scripts/libtorch

.PHONY: pets test golden lint doc libtorch

## The walk-through on the carried photos; its pictures land in target/pets/.
pets:
	$(WITH) cargo run --release --example pets -- $(ARGS)

## Every test.
test:
	$(WITH) cargo test --all-targets
	$(WITH) cargo test --doc

## The comparison with fastai's values alone: one line per topic.
golden:
	$(WITH) cargo test --test golden

lint:
	cargo fmt --check
	$(WITH) cargo clippy --all-targets -- -D warnings

doc:
	$(WITH) env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

## Finds libtorch, or installs it into .libtorch/.
libtorch:
	$(WITH) true
