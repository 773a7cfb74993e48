"""Where jobs run. An engine starts and stops jobs and reports what happens; it never decides what runs next."""
