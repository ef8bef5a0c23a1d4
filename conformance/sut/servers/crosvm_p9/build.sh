#!/bin/sh
# Runs in a Debian root that has cargo and the crate p9 (librust-p9-dev): builds crosvm-p9 with the crate as Debian ships
# it, and crosvm-p9-released with the crate as it was released, without Debian's patch against a sandbox escape.
set -eu
cd /crosvm_p9
mkdir -p .cargo
printf '[source.crates-io]\nreplace-with = "debian"\n[source.debian]\ndirectory = "/usr/share/cargo/registry"\n' > .cargo/config.toml
cargo build --release --offline
cp target/release/crosvm-p9 /usr/bin/crosvm-p9
cp -r /usr/share/cargo/registry/p9-[0-9]* released
patch -d released -R -p1 < released/debian/patches/prevent-path-traversal-and-sandbox-escape.patch
sed -i 's|^p9 = .*|p9 = { path = "released" }|' Cargo.toml
cargo build --release --offline
cp target/release/crosvm-p9 /usr/bin/crosvm-p9-released
