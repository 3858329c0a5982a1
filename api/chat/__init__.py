"""What chats ask for: a nudge's question, replies, context, guidance."""
