"""Analysis of trained points: each study's question answered in sentences, tables and figures."""
