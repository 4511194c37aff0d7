delete from fact
