"""The wire: what the HTTP/1.1 codec makes of bytes. Hostile input stands in http1_cases.jsonl."""
