"""Promise 1 on trial: no accepted letter is lost, none is recorded twice, none delivered twice unsaid."""
