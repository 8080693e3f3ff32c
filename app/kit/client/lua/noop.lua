-- Answers with its argument and touches nothing: for probing that scripts run.
-- KEYS[1] any key of the slot to run on. ARGV[1] the reply.
return ARGV[1]
