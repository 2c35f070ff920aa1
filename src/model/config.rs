//! What the configurations of networks share.

use crate::Result;
use crate::config::ConfigReader;

impl ConfigReader {
    /// The widths of the levels, `block_out_channels`, each a multiple of the groups of their norms; and these groups.
    ///
    /// # Errors
    /// If there are none or over eight of them, one is below `least`, or not such a multiple.
    pub(super) fn widths(
        &mut self,
        default: &[usize],
        least: usize,
    ) -> Result<(Vec<usize>, usize)> {
        const KEY: &str = "block_out_channels";
        let widths: Vec<usize> = self.or(KEY, default.to_vec())?;
        if !(1..=8).contains(&widths.len()) {
            return Err(self.error(KEY, "1 to 8 widths", widths.len()));
        }
        let groups = self.size("norm_num_groups", 32, 1)?;
        for &width in &widths {
            self.check_size(KEY, width, least)?;
            if width % groups != 0 {
                let expected = format!("multiples of norm_num_groups = {groups}");
                return Err(self.error(KEY, expected, width));
            }
        }
        Ok((widths, groups))
    }
}
