//! Compiles `proto/` without needing `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/log.proto"], ["proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    // Manifests use messages of the log: those above, not a second set of types.
    let files = protox::compile(["proto/manifest.proto"], ["proto"])?;
    prost_build::Config::new()
        .bytes(["."])
        .extern_path(".shoal.log.v1", "crate::wal::format::proto")
        .compile_fds(files)?;
    Ok(())
}
