"""Results as files: label maps, activation maps, case.json, tables, previews and the run record.

Writers take core nouns and a path; where a file belongs in the result folder, and that it appears
whole or not at all, is the business of `medmtl.inference`. Nothing here needs torch.
"""
