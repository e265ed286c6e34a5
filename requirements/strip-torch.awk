# Leaves torch out of a compiled lock file: see torch-cpu.txt.
/^[A-Za-z0-9]/ { skip = ($0 ~ /^torch(==| )/) }
!skip
