//! Quantities such as `1500m` or `2Gi`: parsing, comparison and canonical form.
