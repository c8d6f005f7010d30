//! `brokergate check`: to be merged.
pub(super) fn run(path: &std::path::Path) -> anyhow::Result<()> {
    crate::config::load(path)?;
    Ok(())
}
