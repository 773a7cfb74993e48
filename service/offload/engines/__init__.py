"""Where jobs run.  An engine does what it is told and reports what it sees; it never decides who runs next."""
