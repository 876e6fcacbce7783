"""Answer each study's question from its trained points: in sentences, tables and pictures."""
