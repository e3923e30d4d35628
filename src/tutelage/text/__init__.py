"""Tokenizer training, chat templates, the one builder of response_mask, readers, splits, packing plans. Never imports torch."""
