"""Kind `attach`: a guest and a share that run already, on machines that are not the suite's."""
