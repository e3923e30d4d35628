"""What the web apps share: app factory, security headers, sessions, templates, safe Markdown, vendored assets. No torch."""
