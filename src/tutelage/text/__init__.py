"""Tokenizer training, chat templates, the one builder of response_mask, readers, packing plans. Never imports torch."""
