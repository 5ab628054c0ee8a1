"""Workers: processes of this machine, or actors of Ray, that compute jobs of any kind."""
