"""A cluster on its nodes' Docker engines: started, looked at, stopped."""
