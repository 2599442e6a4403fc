"""The built-in runtimes. Each file is imported wherever runtimes are listed, so it imports little itself."""
